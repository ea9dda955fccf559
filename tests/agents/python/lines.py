"""The lines this agent writes."""

import json
import sys
import threading
from collections.abc import Mapping
from typing import Any

_lock = threading.Lock()


def write(line: Mapping[str, Any]) -> None:
    """Write one line, whole, from any thread."""
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    with _lock:
        sys.stdout.buffer.write(text.encode() + b"\n")
        sys.stdout.buffer.flush()
