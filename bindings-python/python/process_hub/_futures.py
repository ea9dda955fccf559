"""Answers that are still to come."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from process_hub._current import Waiting

T = TypeVar("T")


class HubFuture(concurrent.futures.Future[T], Generic[T]):
    """A `concurrent.futures.Future` whose wait inside a child lets others run."""

    def __init__(self, cancel: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._cancel_request = cancel

    def result(self, timeout: float | None = None) -> T:
        """Return the result, waiting at most `timeout` seconds."""
        if self.done():
            return super().result(0)
        with Waiting():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception, waiting at most `timeout` seconds."""
        if self.done():
            return super().exception(0)
        with Waiting():
            return super().exception(timeout)

    def cancel(self) -> bool:
        """Stop waiting; what the operation began goes on."""
        is_cancelled = super().cancel()
        if is_cancelled and self._cancel_request is not None:
            self._cancel_request()
        return is_cancelled


class Requests:
    """Open requests by their number, completed in whichever order both ends come."""

    def __init__(self) -> None:
        # A number maps to the function that takes its answer, or to the answer.
        self._open: dict[int, Any] = {}

    def expect(
        self, request: int, take: Callable[[BaseException | None, Any], None]
    ) -> None:
        """Hand the answer of a request to `take`."""
        answer = self._open.setdefault(request, take)
        if answer is not take:
            del self._open[request]
            take(*answer)

    def completed(self, request: int, error: BaseException | None, value: Any) -> None:
        """Take the answer of a request from the core."""
        answer = (error, value)
        take = self._open.setdefault(request, answer)
        if take is not answer:
            del self._open[request]
            take(error, value)

    def forget(self, request: int) -> None:
        """Drop a request that nobody waits for."""
        self._open[request] = _drop


def _drop(error: BaseException | None, value: Any) -> None:
    """Take an answer that nobody wants."""
