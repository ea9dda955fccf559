"""The strategies of this agent (tests/agents/README.md)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import process_hub as ph

import lines


def _backwards(question: Mapping[str, Any]) -> Any:
    return [move["id"] for move in reversed(question["moves"])]


def _throw(question: Mapping[str, Any]) -> Any:
    raise RuntimeError("no idea")


def _nonsense(question: Mapping[str, Any]) -> Any:
    return 7


def _never(question: Mapping[str, Any]) -> Any:
    return asyncio.Event().wait()


_MANNERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "backwards": _backwards,
    "throw": _throw,
    "nonsense": _nonsense,
    "never": _never,
}


def strategies(hub_id: Any, given: Mapping[str, Any]) -> Any:
    """Return the functions for families and names mapped to their manners."""
    return {
        family: {name: _strategy(hub_id, family, name, how) for name, how in of.items()}
        for family, of in given.items()
    }


def _strategy(hub_id: Any, family: str, name: str, how: Any) -> Callable[[Any], Any]:
    decide = _MANNERS.get(how)
    if decide is None:
        message = f"`strategies`: no such manner: {how!r}"
        raise ph.InvalidArgumentError(message, operation="agent")
    told = {"event": "decide", "hub_id": hub_id, "family": family, "strategy": name}

    def answer(question: Any) -> Any:
        lines.write({**told, "question": question})
        return decide(question)

    return answer
