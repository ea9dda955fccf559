"""The errors of process_hub: one class for each kind of the core's table.

Every class derives from `HubError` and from the builtin that fits, so that both
``except ph.HubError`` and ``except TimeoutError`` work.
"""

from __future__ import annotations

from typing import ClassVar

from process_hub._error_table import ERRORS

_MEANINGS = {kind: (code, meaning) for kind, code, meaning in ERRORS}


class RemoteTraceback(Exception):
    """The stack trace of host code that failed elsewhere; the cause of a HubError."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace)
        self.trace = trace

    def __str__(self) -> str:
        return f'\n"""\n{self.trace.rstrip()}\n"""'


class HubError(Exception):
    """Anything a hub refuses or fails at.

    Attributes
    ----------
    kind
        Name of the kind of error, the same in every language.
    code
        Its fixed number.
    operation
        The operation that failed, such as ``start_children``.
    message
        One line with ids, limits and actual values.
    child_id, node
        The child and the node concerned, where there is one.
    maybe_executed
        For `call` and `send`: whether the message may have been handled.
    trace
        The stack trace of the host code that failed, as text.
    """

    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        child_id: str | None = None,
        node: str | None = None,
        maybe_executed: bool = False,
        trace: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.child_id = child_id
        self.node = node
        self.maybe_executed = maybe_executed
        self.trace = trace
        if trace is not None:
            self.__cause__ = RemoteTraceback(trace)

    @property
    def code(self) -> int:
        """The fixed number of the kind."""
        return _MEANINGS[self.kind][0]

    def __str__(self) -> str:
        prefix = f"{self.operation}: " if self.operation else ""
        return f"{prefix}{self.message} ({self.kind})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by message and facts."""
        return (
            from_native,
            (
                self.kind,
                self.operation,
                self.message,
                self.child_id,
                self.node,
                self.maybe_executed,
                self.trace,
            ),
        )


class InvalidArgumentError(HubError, ValueError):
    """An argument has the wrong form or is out of range."""

    kind = "invalid_argument"


class InvalidConfigError(HubError, ValueError):
    """The configuration has problems; all of them are listed with their paths."""

    kind = "invalid_config"


class UnknownKindError(HubError, LookupError):
    """No member of the hub registered this kind."""

    kind = "unknown_kind"


class NoChildrenError(HubError, ValueError):
    """An empty list of children was given."""

    kind = "no_children"


class NotEncodableError(HubError, ValueError):
    """A value cannot be encoded; the path in the value is given."""

    kind = "not_encodable"


class NotStartedError(HubError, RuntimeError):
    """The hub was made but not started."""

    kind = "not_started"


class ClosedError(HubError, RuntimeError):
    """The hub was stopped."""

    kind = "closed"


class HubExistsError(HubError, RuntimeError):
    """The node already runs a hub with this id."""

    kind = "hub_exists"


class ForkedError(HubError, RuntimeError):
    """The process was forked after the hub started.

    A hub belongs to one process.
    """

    kind = "forked"


class WouldDeadlockError(HubError, RuntimeError):
    """A chain of calls came back to a child that waits in it."""

    kind = "would_deadlock"


class HubFailedError(HubError, RuntimeError):
    """The hub found one of its invariants broken and fenced itself."""

    kind = "hub_failed"


class UnreachableError(HubError, ConnectionError):
    """The node that would have to answer is gone."""

    kind = "unreachable"


class PartitionedError(HubError, RuntimeError):
    """The present side of the cluster has no quorum."""

    kind = "partitioned"


class LockedError(HubError, RuntimeError):
    """The hub is locked by moves that are open."""

    kind = "locked"


class LeavingError(HubError, RuntimeError):
    """The node is leaving the cluster."""

    kind = "leaving"


class VersionMismatchError(HubError, RuntimeError):
    """The peer speaks no protocol version that this node speaks."""

    kind = "version_mismatch"


class StrategyMismatchError(HubError, RuntimeError):
    """The peer's hub is configured with another strategy."""

    kind = "strategy_mismatch"


class AuthenticationFailedError(HubError, PermissionError):
    """The peer did not prove the shared key."""

    kind = "authentication_failed"


class NodeNameTakenError(HubError, RuntimeError):
    """A living node of the cluster has this name."""

    kind = "node_name_taken"


class AlreadyStartedError(HubError, RuntimeError):
    """The child is already wanted."""

    kind = "already_started"


class NotFoundError(HubError, LookupError):
    """No such child is wanted."""

    kind = "not_found"


class StartFailedError(HubError, RuntimeError):
    """The child's start callback failed."""

    kind = "start_failed"


class RestartLimitError(HubError, RuntimeError):
    """The child used up its restart budget and is quarantined."""

    kind = "restart_limit"


class OverloadedError(HubError, RuntimeError):
    """A bounded queue is full."""

    kind = "overloaded"


class ChildFailedError(HubError, RuntimeError):
    """The child raised while it handled the message."""

    kind = "child_failed"


class NotActiveError(HubError, RuntimeError):
    """The child is wanted but no instance became active in time."""

    kind = "not_active"


class HandoverTimeoutError(HubError, TimeoutError):
    """A step of a handover did not end in time."""

    kind = "handover_timeout"


class HostTimeoutError(HubError, TimeoutError):
    """A callback did not end in time."""

    kind = "host_timeout"


class PayloadTooLargeError(HubError, ValueError):
    """A message or state is larger than its limit."""

    kind = "payload_too_large"


class InvalidAnswerError(HubError, ValueError):
    """A custom strategy gave an answer that makes no sense."""

    kind = "invalid_answer"


class MissingChildMappingError(HubError, ValueError):
    """Guided distribution needs a child mapping."""

    kind = "missing_child_mapping"


class InvalidChildMappingError(HubError, ValueError):
    """The child mapping is not a map of ids to nodes."""

    kind = "invalid_child_mapping"


class ChildMappingMismatchError(HubError, ValueError):
    """The child mapping and the children differ."""

    kind = "child_mapping_mismatch"


class ChildReplicationMismatchError(HubError, ValueError):
    """The child mapping names the wrong number of nodes."""

    kind = "child_replication_mismatch"


class HubTimeoutError(HubError, TimeoutError):
    """The operation did not end in the time given."""

    kind = "timeout"


class HubCancelledError(HubError, RuntimeError):
    """The operation was cancelled."""

    kind = "cancelled"


class PanicError(HubError, RuntimeError):
    """Host code panicked."""

    kind = "panic"


class InternalError(HubError, RuntimeError):
    """A fault of this library."""

    kind = "internal"


_CLASSES: dict[str, type[HubError]] = {
    error.kind: error
    for error in HubError.__subclasses__()
    if error.__module__ == __name__
}


def from_native(
    kind: str,
    operation: str,
    message: str,
    child_id: str | None = None,
    node: str | None = None,
    maybe_executed: bool = False,
    trace: str | None = None,
) -> HubError:
    """Make the error of a kind; a kind of a newer core becomes a plain HubError."""
    return _CLASSES.get(kind, HubError)(
        message,
        operation=operation,
        child_id=child_id,
        node=node,
        maybe_executed=maybe_executed,
        trace=trace,
    )
