"""Which callback the present thread or task runs, for calls made from inside."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from process_hub._host import Host

# The host that runs a callback; its pool thread, unless it runs on a loop or on a
# thread of its own; the children that wait for it, outermost first, and its own. A
# plain tuple, because one is made for each message.
Current = tuple["Host", "int | None", Sequence[str]]

current: ContextVar[Current | None] = ContextVar("process_hub", default=None)


def chain_of(host: Host) -> Sequence[str] | None:
    """Return the children of this hub that wait for what is done now."""
    running = current.get()
    if running is None or running[0] is not host:
        return None
    return running[2] or None


def runs_inside(host: Host | None) -> bool:
    """Whether the present thread or task runs a callback of this hub."""
    running = current.get()
    return running is not None and running[0] is host


class Waiting:
    """A wait inside a callback: it frees the thread's slot for other callbacks."""

    __slots__ = ("_host", "_worker")

    def __enter__(self) -> None:
        running = current.get()
        self._worker: int | None = None
        if running is not None and running[1] is not None:
            self._host, self._worker = running[0], running[1]
            if self._host.native.begin_wait(running[1]):
                self._host.add_worker()

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._host.native.end_wait(self._worker)
