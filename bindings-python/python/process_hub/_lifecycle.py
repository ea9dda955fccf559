"""What happens to open hubs when the process ends or forks."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Protocol
from weakref import WeakSet

from process_hub import _native
from process_hub._logging import LogForwarder
from process_hub.errors import ForkedError

EXIT_TIMEOUT_SECONDS = 10.0
"""How long hubs that were left open may take to leave at exit."""


class Closable(Protocol):
    """A hub or node that was started."""

    def close_at_exit(self, timeout: float) -> None:
        """Leave the cluster, bounded, while the interpreter is fully alive."""


class _Process:
    """The hubs of this process; nothing runs before the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[Closable] = WeakSet()
        self._logs: LogForwarder | None = None
        self._is_prepared = False
        self._is_copy = False

    def check_start(self) -> None:
        """Refuse to start in a process forked from one whose hubs were running.

        What other threads were in the middle of at the fork stays so for ever, and the
        core needs some of it.
        """
        if self._is_copy:
            message = (
                "this process was forked from one with a running hub: start hubs after "
                "the fork only, or use the `spawn` or `forkserver` start method of "
                "multiprocessing"
            )
            raise ForkedError(message, operation="start")

    def opened(self, hub: Closable) -> None:
        """Take note of a hub that starts."""
        with self._lock:
            if not self._is_prepared:
                self._is_prepared = True
                atexit.register(self._close_all)
                os.register_at_fork(after_in_child=self._after_fork)
            if self._logs is None:
                self._logs = LogForwarder()
                self._logs.start()
            self._logs.set_level()
            self._open.add(hub)

    def closed(self, hub: Closable) -> None:
        """Take note of a hub that stopped."""
        with self._lock:
            self._open.discard(hub)

    def _close_all(self) -> None:
        for hub in tuple(self._open):
            hub.close_at_exit(EXIT_TIMEOUT_SECONDS)
        if self._logs is not None:
            self._logs.close()

    def _after_fork(self) -> None:
        # Other threads may have held any lock at the fork, so none is taken; nothing
        # of the parent's hubs is touched.
        _native.mark_forked()
        self._is_copy = self._is_copy or len(self._open) > 0
        self._lock = threading.Lock()
        self._open = WeakSet()
        self._logs = None


process = _Process()
