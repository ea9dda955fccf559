"""What users write (`Child`) and what a child is given (`Context`)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from process_hub._host import Host
    from process_hub._kinds import Registered
    from process_hub._native import NativeContext


class _Text(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class Mode(_Text):
    """The role of an instance."""

    ACTIVE = "active"
    PASSIVE = "passive"


class StartReason(_Text):
    """Why an instance was started."""

    INITIAL = "initial"
    RESTART = "restart"
    MIGRATION = "migration"
    FAILOVER = "failover"


class StopReason(_Text):
    """Why an instance is stopped."""

    STOPPED = "stopped"
    MIGRATED = "migrated"
    SHUTDOWN = "shutdown"
    PARTITIONED = "partitioned"
    LOST_OWNERSHIP = "lost_ownership"


@dataclass(frozen=True, kw_only=True)
class HandoverTarget:
    """Whom a hand-over goes to: `node` and `epoch`, or the `error` of its start."""

    node: str | None = None
    epoch: int | None = None
    error: str | None = None


class Context:
    """What an instance knows about itself, and how it acts of its own accord."""

    # The host's own record of the instance too: children are many, so each is one
    # object of ours, and what few of them need is made when it is.
    __slots__ = (
        "__weakref__",
        "_cancel",
        "_child",
        "_host",
        "_instance",
        "_kind",
        "_native",
        "_tasks",
        "child_id",
    )

    child_id: str
    """The child's id."""

    def __init__(
        self,
        host: Host,
        instance: int,
        child_id: str,
        native: NativeContext,
        kind: Registered,
        child: Child,
    ) -> None:
        self._host = host
        self._instance = instance
        self._native = native
        self._kind = kind
        self._child = child
        self._cancel: threading.Event | None = None
        self._tasks: set[asyncio.Task[None]] | None = None
        self.child_id = child_id

    @property
    def epoch(self) -> int:
        """The fencing number: rises whenever the owner of the child changes."""
        return self._native.epoch

    @property
    def mode(self) -> Mode:
        """The present role."""
        return Mode.ACTIVE if self._native.is_active else Mode.PASSIVE

    @property
    def kind(self) -> str:
        """The kind of code that runs the child."""
        return self._native.kind

    @property
    def hub_id(self) -> str:
        """The id of the hub."""
        return self._native.hub_id

    @property
    def node(self) -> str:
        """The name of the node that runs this instance."""
        return self._native.node

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the child's spec."""
        return self._native.metadata()

    @property
    def start_reason(self) -> StartReason:
        """Why this instance was started."""
        return StartReason(self._native.start_reason)

    @property
    def cancelled(self) -> bool:
        """Whether `run` is to return, because the child is frozen or stopped."""
        return self._cancel is not None and self._cancel.is_set()

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Sleep in a `run` body until it is cancelled, at most `timeout` seconds.

        Returns
        -------
        bool
            Whether the body is cancelled.
        """
        if self._cancel is None:
            self._cancel = threading.Event()
        return self._cancel.wait(timeout)

    @property
    def hub(self) -> Any:
        """The hub (`Hub` or `AsyncHub`), for calls to other children."""
        return self._host.hub()

    def retention_handled(self) -> None:
        """Say that the outgoing instance, kept after a hot swap, may be stopped."""
        self._host.native.instance_event(self._instance, "retention_handled", None)

    def exit(self, reason: str | BaseException | None = None) -> None:
        """End the instance: normally, or with a reason as a crash."""
        text = None if reason is None else _reason(reason)
        self._host.native.instance_event(self._instance, "exit", text)

    def stop_self(self) -> None:
        """Stop the child for good: it is no longer wanted."""
        self._host.native.instance_event(self._instance, "stop_self", None)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("a Context belongs to one instance and cannot be pickled")

    def __repr__(self) -> str:
        return f"Context({self.child_id!r}, node={self.node!r}, epoch={self.epoch})"


def _reason(reason: str | BaseException) -> str:
    if isinstance(reason, BaseException):
        return f"{type(reason).__name__}: {reason}"
    return reason


class Child:
    """A child: stateful callbacks that run on the node that owns it.

    Override what is needed; every method may be ``async def`` as well. At most one
    callback of an instance runs at a time, `run` apart, in the order in which they
    came. What `start` and `handle` raise is told to the caller.

    A child's state is whatever it keeps in ``self.state``, as far as it can be written
    as JSON or is `bytes`: that is what moves with it (with ``handover=True``) and what
    is named as lost when its node dies. Children without state say
    ``stateless = True``.
    """

    stateless: ClassVar[bool] = False
    """Whether there is nothing to hand over, and so nothing to lose."""

    def start(self, ctx: Context, args: Any) -> Any:
        """Begin: once per instance, before anything else."""

    def run(self, ctx: Context) -> Any:
        """Work on its own, if overridden, after `start` and after a state came.

        A plain method has a thread of its own and returns when ``ctx.cancelled``; an
        ``async`` one is cancelled. To return otherwise ends the instance.
        """

    def handle(self, message: Any) -> Any:
        """Handle the message of a `call` or `send`, and return the reply."""
        raise NotImplementedError(f"{type(self).__name__} handles no messages")

    def redundancy_signal(self, mode: Mode) -> Any:
        """Take note of the role, at start and on every change."""

    def handover_start(self, target: HandoverTarget) -> Any:
        """Take note that a hand-over begins."""

    def prepare_handover_state(self) -> Any:
        """Return the state to hand over; None for no state."""
        return getattr(self, "state", None)

    def alter_handover_state(self, state: Any) -> Any:
        """Take the state of the instance this one replaces."""
        self.state = state

    def resolve_conflict(self, state: Any) -> Any:
        """Take note of the state of the other side after a heal; keeps its own."""

    def stop(self, reason: StopReason) -> Any:
        """End: the last call of an instance."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How the values of a kind are written, in place of strict JSON.

    Never use `pickle` here unless every member of the cluster is trusted with running
    code in this process.
    """

    content_type: str
    """The name of the format; the same on every node."""
    encode: Callable[[Any], bytes]
    """Write a value."""
    decode: Callable[[bytes], Any]
    """Read it back."""


@dataclass(frozen=True)
class Kind:
    """A kind with more to say than its class."""

    child: type[Child]
    """The class of its children."""
    factory: Callable[[], Child] | None = None
    """What makes a child; by default the class without arguments."""
    codec: Codec | None = None
    """How arguments, messages, replies and states are written."""
