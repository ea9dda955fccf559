"""The core's log records, forwarded to ``logging.getLogger("process_hub")``."""

from __future__ import annotations

import logging
import threading

from process_hub import _native

_LOGGER = logging.getLogger("process_hub")
_PAUSE_MS = 1000


class LogForwarder:
    """A thread that hands the core's records to `logging`, in batches."""

    def __init__(self) -> None:
        _native.open_logs()
        self._thread = threading.Thread(
            target=self._forward, name="process-hub-logs", daemon=True
        )

    def start(self) -> None:
        """Start to forward."""
        self._thread.start()

    def close(self) -> None:
        """Forward what is there, and end."""
        _native.close_logs()
        self._thread.join(1.0)

    def set_level(self) -> None:
        """Record from the logger's present level on."""
        _native.set_log_level(min(_LOGGER.getEffectiveLevel(), 255))

    def _forward(self) -> None:
        while True:
            batch = _native.next_logs(_PAUSE_MS)
            if batch is None:
                return
            records, dropped = batch
            for level, name, message, seconds in records:
                self._emit(level, name, message, seconds)
            if dropped:
                _LOGGER.warning("%d log records of the core were dropped", dropped)
            self.set_level()

    @staticmethod
    def _emit(level: int, name: str, message: str, seconds: float) -> None:
        logger = logging.getLogger(name)
        if not logger.isEnabledFor(level):
            return
        record = logger.makeRecord(
            name, level, "(process_hub core)", 0, message, (), None
        )
        record.created = seconds
        record.msecs = (seconds % 1) * 1000
        logger.handle(record)
