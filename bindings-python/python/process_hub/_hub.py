"""The blocking hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from process_hub._base import BaseHub
from process_hub._child import Child, Kind
from process_hub._current import Waiting, current
from process_hub._durations import Duration, to_ms
from process_hub._futures import HubFuture
from process_hub._native import NativeStartResult
from process_hub._node import Node
from process_hub._results import (
    DrainReport,
    Started,
    StartResult,
    Stopped,
    StopResult,
    drain_report,
    one_started,
    one_stopped,
    stop_result,
)
from process_hub._spec import Spec
from process_hub._strategies import Strategies

T = TypeVar("T")


class Hub(BaseHub):
    """A hub whose operations block, or return a `concurrent.futures.Future`.

    ``with Hub(...) as hub:`` starts it and, at the end, stops it gracefully. Every
    method may be called from any thread.
    """

    __doc__ = f"{__doc__}\n{BaseHub.__doc__ or ''}"

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        kinds: Mapping[str, type[Child] | Kind] | None = None,
        node: Node | None = None,
        strategies: Strategies | None = None,
        hooks: Mapping[str, Any] | None = None,
    ) -> Hub:
        """Make a hub of the configuration document that all languages share."""
        hub: Hub = cls._of_config(config, kinds, node, strategies, hooks)
        return hub

    def start(self) -> Hub:
        """Start the hub: once, and never before a fork."""
        self._start_native()
        return self

    def stop(self, timeout: Duration | None = None) -> DrainReport:
        """Give the children away, leave and stop. Stopping again does nothing.

        Raises
        ------
        HubTimeoutError
            If the children did not end in time; the hub is closed all the same.
        WouldDeadlockError
            In a callback of a child of this hub.
        """
        self._check_stop()
        return self._stop_native(timeout)

    def __enter__(self) -> Hub:
        return self if self._state == "started" else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_forked():
            self.stop()

    def start_child(
        self,
        spec: Spec | str,
        kind: str | None = None,
        *,
        args: Any = None,
        metadata: Mapping[str, Any] | None = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        on_error: Literal["continue", "restart"] | None = None,
        require: Mapping[str, str] | None = None,
        shutdown: Duration | None = None,
        timeout: Duration | None = None,
        check_existing: bool = True,
        if_exists: Literal["error", "return"] = "error",
    ) -> HubFuture[Started]:
        """Start one child; done means callable from here, now."""
        request = self._begin_start_child(
            spec,
            kind,
            timeout,
            check_existing,
            if_exists,
            args=args,
            metadata=metadata,
            restart=restart,
            on_error=on_error,
            require=require,
            shutdown=shutdown,
        )
        return self._future(request, one_started)

    def start_children(
        self,
        specs: Sequence[Spec],
        *,
        timeout: Duration | None = None,
        check_existing: bool = True,
        if_exists: Literal["error", "return"] = "error",
        on_failure: Literal["continue", "rollback"] = "continue",
        metadata: Mapping[str, Any] | None = None,
        child_mapping: Mapping[str, Sequence[str]] | None = None,
    ) -> HubFuture[StartResult]:
        """Start children; one that fails refuses none of the others."""
        request = self._begin_start_children(
            specs,
            timeout,
            check_existing,
            if_exists,
            on_failure,
            metadata,
            child_mapping,
        )
        return self._future(request, StartResult)

    def stop_child(
        self, child_id: str, *, timeout: Duration = 10.0
    ) -> HubFuture[Stopped]:
        """Stop one child everywhere; done when its instances have ended."""
        request = self._begin_stop("stop_child", [child_id], timeout)
        return self._future(request, one_stopped)

    def stop_children(
        self, child_ids: Sequence[str], *, timeout: Duration = 10.0
    ) -> HubFuture[StopResult]:
        """Stop children everywhere."""
        request = self._begin_stop("stop_children", child_ids, timeout)
        return self._future(request, stop_result)

    def call(
        self,
        child_id: str,
        message: Any = None,
        *,
        timeout: Duration = 5.0,
        node: str | None = None,
    ) -> Any:
        """Send a message to a child, wherever it is, and return its reply.

        With `node`, to the instance there. What `Child.handle` raises comes as
        `ChildFailedError`; an error's ``maybe_executed`` says whether the message may
        have been handled.
        """
        native = self._started("call")
        ms = to_ms(timeout, "timeout")
        message = self._message(child_id, message)
        if current.get() is None:
            reply = native.call(child_id, message, ms, node, None)
        else:
            with Waiting():
                reply = native.call(child_id, message, ms, node, self._chain())
        return self._kinds.decode(reply)

    def send(
        self,
        child_id: str,
        message: Any = None,
        *,
        timeout: Duration = 5.0,
        node: str | None = None,
        all: bool = False,
    ) -> None:
        """Send a message without waiting for a reply; to `all` instances if asked."""
        native = self._started("send")
        message = self._message(child_id, message)
        ms = to_ms(timeout, "timeout")
        native.send(child_id, message, ms, node, all, self._chain())

    def which_children(
        self,
        scope: Literal["local", "global"] = "local",
        *,
        timeout: Duration = 5.0,
    ) -> dict[str, list[str]]:
        """Return the ids of the children on each node; ``global`` asks the members."""
        native = self._started("which_children")
        if scope == "local":
            return native.which_children_local()
        request = native.which_children(scope, to_ms(timeout, "timeout"))
        children: dict[str, list[str]] = self._wait(request)
        return children

    def drain(self, timeout: Duration = 60.0) -> DrainReport:
        """Give every local child away, and stay a member that owns nothing."""
        native = self._started("drain")
        return drain_report(self._wait(native.drain(to_ms(timeout, "timeout"))))

    def where(self, child_id: str) -> dict[str, Any]:
        """Return where a child is, and why."""
        document: dict[str, Any] = self._wait(self._started("where").where(child_id))
        return document

    def plan(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """Return what would move: ``{"join": [...]}`` or ``{"leave": [...]}``."""
        document: dict[str, Any] = self._wait(self._started("plan").plan(dict(change)))
        return document

    def sync(self, timeout: Duration = 5.0) -> None:
        """Return when every reachable node has what this node had written."""
        self._wait(self._started("sync").sync(to_ms(timeout, "timeout")))

    def acknowledge_loss(self, child_id: str) -> None:
        """Clear the `state_lost` of a child."""
        self._wait(self._started("acknowledge_loss").acknowledge_loss(child_id))

    def reset_cluster_size(self, size: int) -> None:
        """Let so many members count from now on: under `MajorityQuorum` only."""
        self._wait(self._started("reset_cluster_size").reset_cluster_size(size))

    def _wait(self, request: int) -> Any:
        return self._future(request, _same).result()

    def _future(
        self, request: int | NativeStartResult, convert: Callable[[Any], T]
    ) -> HubFuture[T]:
        if isinstance(request, NativeStartResult):
            done: HubFuture[T] = HubFuture()
            _settle(done, None, request, convert)
            return done
        native = self._started("start_children", even_closed=True)
        future: HubFuture[T] = HubFuture(lambda: native.cancel(request))
        self._requests.expect(
            request, lambda error, value: _settle(future, error, value, convert)
        )
        return future


def _same(value: Any) -> Any:
    return value


def _settle(
    future: HubFuture[T],
    error: BaseException | None,
    value: Any,
    convert: Callable[[Any], T],
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        if error is not None:
            raise error
        result = convert(value)
    except Exception as failure:
        future.set_exception(failure)
    else:
        future.set_result(result)
