"""Values that are no JSON, as the protocol shows them."""

import base64
from collections.abc import Mapping
from typing import Any

import process_hub as ph

_BYTES = "application/octet-stream"


def is_json(value: Any) -> bool:
    """Whether a value that came out of the hub is JSON."""
    return not isinstance(value, (bytes, ph.Payload))


def shown(value: Any) -> Any:
    """Return a value as it appears in a reply."""
    if isinstance(value, ph.Payload):
        content_type, data = value.content_type, value.data
    elif isinstance(value, bytes):
        content_type, data = _BYTES, value
    else:
        return value
    return {"content_type": content_type, "base64": base64.b64encode(data).decode()}


def given(payload: Mapping[str, Any]) -> Any:
    """Return the value that a request shows."""
    data = base64.b64decode(payload["base64"], validate=True)
    if payload["content_type"] == _BYTES:
        return data
    return ph.Payload(data, payload["content_type"])
