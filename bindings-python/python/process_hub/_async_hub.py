"""The hub for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from process_hub._base import BaseHub
from process_hub._child import Child, Kind
from process_hub._durations import Duration, to_ms
from process_hub._loops import Loop
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
from process_hub.errors import HubError, InvalidArgumentError

T = TypeVar("T")


class AsyncHub(BaseHub):
    """A hub whose operations are awaited, for one asyncio loop.

    Make it inside a running loop: ``async with AsyncHub(...) as hub:`` starts it and,
    at the end, stops it gracefully. ``async def`` callbacks of its children run as
    tasks on that loop, the others on threads. Operations begin when they are called;
    awaiting them is how to learn the answer.
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
    ) -> AsyncHub:
        """Make a hub of the configuration document that all languages share."""
        hub: AsyncHub = cls._of_config(config, kinds, node, strategies, hooks)
        return hub

    def _make_loop(self) -> Loop:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError as error:
            message = "an AsyncHub is made inside a running event loop"
            raise InvalidArgumentError(message, operation="start") from error
        return Loop(self._loop)

    async def start(self) -> AsyncHub:
        """Start the hub: once, and never before a fork."""
        await asyncio.to_thread(self._start_native)
        return self

    async def stop(self, timeout: Duration | None = None) -> DrainReport:
        """Give the children away, leave and stop. Stopping again does nothing."""
        self._check_stop()
        return await asyncio.to_thread(self._stop_native, timeout)

    async def __aenter__(self) -> AsyncHub:
        return self if self._state == "started" else await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_forked():
            await self.stop()

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
    ) -> asyncio.Future[Started]:
        """Start one child; done means callable from here, now."""

        def begin() -> int | NativeStartResult:
            return self._begin_start_child(
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

        return self._future(begin, one_started)

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
    ) -> asyncio.Future[StartResult]:
        """Start children; one that fails refuses none of the others."""

        def begin() -> int | NativeStartResult:
            return self._begin_start_children(
                specs,
                timeout,
                check_existing,
                if_exists,
                on_failure,
                metadata,
                child_mapping,
            )

        return self._future(begin, StartResult)

    def stop_child(
        self, child_id: str, *, timeout: Duration = 10.0
    ) -> asyncio.Future[Stopped]:
        """Stop one child everywhere; done when its instances have ended."""
        return self._future(
            lambda: self._begin_stop("stop_child", [child_id], timeout), one_stopped
        )

    def stop_children(
        self, child_ids: Sequence[str], *, timeout: Duration = 10.0
    ) -> asyncio.Future[StopResult]:
        """Stop children everywhere."""
        return self._future(
            lambda: self._begin_stop("stop_children", child_ids, timeout), stop_result
        )

    def call(
        self,
        child_id: str,
        message: Any = None,
        *,
        timeout: Duration = 5.0,
        node: str | None = None,
    ) -> asyncio.Future[Any]:
        """Send a message to a child, wherever it is, and return its reply.

        With `node`, to the instance there. What `Child.handle` raises comes as
        `ChildFailedError`; an error's ``maybe_executed`` says whether the message may
        have been handled.
        """

        def begin() -> int:
            native = self._started("call")
            encoded = self._message(child_id, message)
            ms = to_ms(timeout, "timeout")
            return native.begin_call(child_id, encoded, ms, node, self._chain())

        return self._future(begin, self._kinds.decode)

    def send(
        self,
        child_id: str,
        message: Any = None,
        *,
        timeout: Duration = 5.0,
        node: str | None = None,
        all: bool = False,
    ) -> asyncio.Future[None]:
        """Send a message without waiting for a reply; to `all` instances if asked."""

        def begin() -> int:
            native = self._started("send")
            encoded = self._message(child_id, message)
            ms = to_ms(timeout, "timeout")
            return native.begin_send(child_id, encoded, ms, node, all, self._chain())

        return self._future(begin, _same)

    def which_children(
        self,
        scope: Literal["local", "global"] = "local",
        *,
        timeout: Duration = 5.0,
    ) -> asyncio.Future[dict[str, list[str]]]:
        """Return the ids of the children on each node; ``global`` asks the members."""
        if scope == "local":
            done: asyncio.Future[dict[str, list[str]]] = self._loop.create_future()
            done.set_result(self._started("which_children").which_children_local())
            return done

        def begin() -> int:
            native = self._started("which_children")
            return native.which_children(scope, to_ms(timeout, "timeout"))

        return self._future(begin, _same)

    def drain(self, timeout: Duration = 60.0) -> asyncio.Future[DrainReport]:
        """Give every local child away, and stay a member that owns nothing."""
        return self._future(
            lambda: self._started("drain").drain(to_ms(timeout, "timeout")),
            drain_report,
        )

    def where(self, child_id: str) -> asyncio.Future[dict[str, Any]]:
        """Return where a child is, and why."""
        return self._future(lambda: self._started("where").where(child_id), _same)

    def plan(self, change: Mapping[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Return what would move: ``{"join": [...]}`` or ``{"leave": [...]}``."""
        return self._future(lambda: self._started("plan").plan(dict(change)), _same)

    def sync(self, timeout: Duration = 5.0) -> asyncio.Future[None]:
        """Done when every reachable node has what this node had written."""
        return self._future(
            lambda: self._started("sync").sync(to_ms(timeout, "timeout")), _same
        )

    def acknowledge_loss(self, child_id: str) -> asyncio.Future[None]:
        """Clear the `state_lost` of a child."""
        return self._future(
            lambda: self._started("acknowledge_loss").acknowledge_loss(child_id),
            _same,
        )

    def reset_cluster_size(self, size: int) -> asyncio.Future[None]:
        """Let so many members count from now on: under `MajorityQuorum` only."""
        return self._future(
            lambda: self._started("reset_cluster_size").reset_cluster_size(size),
            _same,
        )

    def _future(
        self,
        begin: Callable[[], int | NativeStartResult],
        convert: Callable[[Any], T],
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        try:
            request = begin()
        except HubError as error:
            future.set_exception(error)
            return future
        if isinstance(request, NativeStartResult):
            _settle(future, None, request, convert)
            return future
        native = self._started("cancel", even_closed=True)

        def ended(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                native.cancel(request)

        def take(error: BaseException | None, value: Any) -> None:
            try:
                self._loop.call_soon_threadsafe(_settle, future, error, value, convert)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        future.add_done_callback(ended)
        self._requests.expect(request, take)
        return future


def _same(value: Any) -> Any:
    return value


def _settle(
    future: asyncio.Future[T],
    error: BaseException | None,
    value: Any,
    convert: Callable[[Any], T],
) -> None:
    if future.done():
        return
    try:
        if error is not None:
            raise error
        result = convert(value)
    except Exception as failure:
        future.set_exception(failure)
    else:
        future.set_result(result)
