"""Durations: seconds or `timedelta` for users, integer milliseconds for the core."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from process_hub.errors import InvalidArgumentError

Duration = float | timedelta
"""Seconds, or a `timedelta`."""


def to_ms(duration: Duration, name: str) -> int:
    """Convert the argument `name` of an operation to milliseconds.

    Raises
    ------
    InvalidArgumentError
        If it is not a finite duration of at least 0.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not math.isfinite(seconds)
        or seconds < 0
    ):
        message = f"{name} must be seconds (a number of at least 0) or a timedelta"
        raise InvalidArgumentError(f"{message}, not {duration!r}", operation=name)
    return round(seconds * 1000)


def config_ms(duration: Any) -> Any:
    """Convert a duration of the configuration; what is none is left for the core.

    The core reports all problems of a configuration at once, so none is raised here.
    """
    if isinstance(duration, timedelta):
        return round(duration.total_seconds() * 1000)
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return round(duration * 1000) if math.isfinite(duration) else str(duration)
    return duration
