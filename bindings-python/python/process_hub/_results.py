"""What operations answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from process_hub import errors

if TYPE_CHECKING:
    from process_hub._native import NativeStartResult


@dataclass(frozen=True)
class StateLost:
    """That a child was restarted without the state it had."""

    epoch: int
    version: int


@dataclass(frozen=True)
class StartedInstance:
    """One instance of a started child."""

    node: str
    epoch: int


@dataclass(frozen=True)
class Started:
    """A child that runs and can be called from here, now."""

    id: str
    instances: list[StartedInstance]


@dataclass(frozen=True)
class Stopped:
    """A child that was stopped everywhere, and the nodes that ran it."""

    id: str
    nodes: list[str]


@dataclass(frozen=True)
class ChildError:
    """Why one child of a request failed; `id` is None where the spec had none."""

    id: str | None
    node: str | None
    kind: str
    message: str

    def to_error(self, operation: str) -> errors.HubError:
        """Return the exception of this failure."""
        return errors.from_native(
            self.kind, operation, self.message, self.id, self.node
        )


class StartResult:
    """The result of `start_children`: which children run, and why others do not."""

    def __init__(self, native: NativeStartResult) -> None:
        self._native = native

    @property
    def status(self) -> Literal["ok", "error"]:
        """``"ok"`` if every child runs."""
        return "ok" if self._native.is_ok else "error"

    @property
    def rollback(self) -> bool:
        """Whether the started ones were stopped again because of the errors."""
        return self._native.rollback

    @cached_property
    def started(self) -> list[Started]:
        """The children that run."""
        return [
            Started(id, [StartedInstance(node, epoch) for node, epoch in instances])
            for id, instances in self._native.started()
        ]

    @cached_property
    def errors(self) -> list[ChildError]:
        """The children that do not, and why."""
        return [ChildError(*error) for error in self._native.errors()]

    def raise_for_errors(self) -> StartResult:
        """Raise the error of the first child that failed, if one did.

        Returns
        -------
        StartResult
            This result.
        """
        _raise_first(self.errors, "start_children")
        return self

    def __repr__(self) -> str:
        return (
            f"StartResult(status={self.status!r}, "
            f"started={self._native.started_count}, errors={self.errors!r})"
        )


@dataclass(frozen=True)
class StopResult:
    """The result of `stop_children`."""

    status: Literal["ok", "error"]
    stopped: list[Stopped]
    errors: list[ChildError]

    def raise_for_errors(self) -> StopResult:
        """Raise the error of the first child that failed, if one did."""
        _raise_first(self.errors, "stop_children")
        return self


@dataclass(frozen=True)
class ChildReason:
    """One child and a reason."""

    id: str
    why: str


@dataclass(frozen=True)
class DrainReport:
    """What became of each local child in `drain` and `stop`."""

    moved: list[str]
    """Moved with what state they had."""
    restarted: list[ChildReason]
    """Running elsewhere, without their state."""
    stopped: list[str]
    """Stopped here and running nowhere."""
    failed: list[ChildReason]
    """Still here, or lost."""


def _raise_first(failures: Sequence[ChildError], operation: str) -> None:
    if not failures:
        return
    error = failures[0].to_error(operation)
    if len(failures) > 1:
        error.message += f" (and {len(failures) - 1} more)"
    raise error


def one_started(native: NativeStartResult) -> Started:
    """Return the only child of a request, or raise its error."""
    result = StartResult(native)
    if result.errors:
        raise result.errors[0].to_error("start_child")
    return result.started[0]


def stop_result(document: Mapping[str, Any]) -> StopResult:
    """Return the result of `stop_children` from its document."""
    return StopResult(
        document["status"],
        [Stopped(stopped["id"], stopped["nodes"]) for stopped in document["stopped"]],
        [ChildError(**error) for error in document["errors"]],
    )


def one_stopped(document: Mapping[str, Any]) -> Stopped:
    """Return the only child of a request, or raise its error."""
    result = stop_result(document)
    if result.errors:
        raise result.errors[0].to_error("stop_child")
    return result.stopped[0]


def drain_report(document: Mapping[str, Any]) -> DrainReport:
    """Return the report of `drain` and `stop` from its document."""
    return DrainReport(
        document["moved"],
        [ChildReason(**reason) for reason in document["restarted"]],
        document["stopped"],
        [ChildReason(**reason) for reason in document["failed"]],
    )
