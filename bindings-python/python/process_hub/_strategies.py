"""Strategies of the program's own: functions that decide for a family.

A function is given one question and returns its answer, or a coroutine that does and
is cancelled when nobody waits for it any more. An answer that is late, missing or makes
no sense counts for nothing: the built-in decides, and the hook ``strategy_fallback``
tells why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict

from process_hub.errors import InvalidArgumentError

Move = TypedDict("Move", {"id": str, "from": str, "to": str})
Move.__doc__ = "A child that is about to move, and the names of both nodes."


class MigrationQuestion(TypedDict):
    """In which order shall these moves begin? The answer: their ids, each once."""

    moves: list[Move]


MigrationStrategy = Callable[
    [MigrationQuestion], Sequence[str] | Awaitable[Sequence[str]]
]
"""Decides in which order moves begin."""
Decide = Callable[[Any], Any]


class Strategies(TypedDict, total=False):
    """The functions that decide, by their family and by the name in `Custom`."""

    redundancy: Mapping[str, Decide]
    migration: Mapping[str, MigrationStrategy]
    partition_tolerance: Mapping[str, Decide]
    distribution: Mapping[str, Decide]


def strategy_table(
    given: Strategies | Mapping[str, Mapping[str, Decide]] | None,
) -> dict[tuple[str, str], Decide]:
    """Return the functions by family and name, or raise that something is none."""
    families: Any = {} if given is None else given
    _check(isinstance(families, Mapping), "strategies must be a mapping", families)
    table: dict[tuple[str, str], Decide] = {}
    for family, named in families.items():
        what = f"strategies[{family!r}] must be a mapping"
        _check(isinstance(named, Mapping), what, named)
        for name, decide in named.items():
            what = f"strategies[{family!r}][{name!r}] must be callable"
            _check(callable(decide), what, decide)
            table[family, name] = decide
    return table


def _check(is_good: bool, what: str, given: object) -> None:
    if not is_good:
        raise InvalidArgumentError(f"{what}, not {given!r}", operation="start")
