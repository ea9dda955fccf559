"""The event loop that ``async def`` callbacks run on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

_CANCEL_SECONDS = 0.5


class Loop:
    """A loop of the user's, or one on a thread of ours, made when it is needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._owned: threading.Thread | None = None
        self._lock = threading.Lock()

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Call a function on the loop; False if the loop is closed."""
        try:
            self._get().call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True

    def _get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._owned = threading.Thread(
                    target=self._loop.run_forever,
                    name="process-hub-loop",
                    daemon=True,
                )
                self._owned.start()
            return self._loop

    def close(self, timeout: float) -> None:
        """End the loop if it is ours."""
        if self._owned is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(_end, self._loop)
            if self._owned is not threading.current_thread():
                self._owned.join(timeout)
                if not self._owned.is_alive():
                    self._loop.close()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs on a loop, and stop it when that has ended."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    # What does not let itself be cancelled is left behind.
    loop.call_later(_CANCEL_SECONDS, loop.stop)
    ended = asyncio.gather(*tasks, return_exceptions=True)
    ended.add_done_callback(lambda _: loop.stop())
