"""What is needed to start a child anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from process_hub._durations import Duration, config_ms
from process_hub.errors import InvalidArgumentError


@dataclass(frozen=True)
class ChildSpec:
    """A child to start: on any node that registered its kind.

    Attributes
    ----------
    id
        Unique in the hub, 1 to 255 bytes.
    kind
        The name under which nodes registered the code.
    args
        The argument of `Child.start`: JSON-compatible or `bytes`.
    metadata
        Free; the key ``tag`` is what `tag_query` looks for.
    restart
        What an exit does: always restart, after a crash only, or never.
    on_error
        What an exception in `Child.handle` does to the instance.
    require
        Labels a node must have to be given the child.
    shutdown
        Longest time of `Child.stop`.
    mapping
        Under ``Guided``: the nodes that run it, the owner first. The option
        ``child_mapping`` of `Hub.start_children` fills it.
    """

    id: str
    kind: str
    args: Any = None
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    restart: Literal["permanent", "transient", "temporary"] = field(
        default="permanent", kw_only=True
    )
    on_error: Literal["continue", "restart"] = field(default="continue", kw_only=True)
    require: Mapping[str, str] | None = field(default=None, kw_only=True)
    shutdown: Duration = field(default=5.0, kw_only=True)
    mapping: Sequence[str] = field(default=(), kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as the document every language reads."""
        document: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "args": self.args,
            "metadata": dict(self.metadata or {}),
            "restart": self.restart,
            "on_error": self.on_error,
            "require": dict(self.require or {}),
            "shutdown_ms": config_ms(self.shutdown),
        }
        if self.mapping:
            document["mapping"] = list(self.mapping)
        return document

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> ChildSpec:
        """Read a spec back from its document, as the core wrote it."""
        options = dict(document)
        if "shutdown_ms" in options:
            options["shutdown"] = options.pop("shutdown_ms") / 1000
        return ChildSpec(**options)


Spec = ChildSpec | Mapping[str, Any]
"""A child to start: a `ChildSpec`, or its document as a mapping."""


def make_spec(spec: Spec | str, kind: str | None, options: dict[str, Any]) -> Spec:
    """Return the spec that the arguments of `start_child` make."""
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(spec, str):
        if kind is None:
            message = f"start_child({spec!r}) needs the kind as its second argument"
            raise InvalidArgumentError(message, operation="start_child")
        return ChildSpec(spec, kind, **given)
    if kind is not None or given:
        message = "the kind and its options belong into the ChildSpec"
        raise InvalidArgumentError(message, operation="start_child")
    return spec


def plain_mapping(mapping: object) -> object:
    """Return a mapping with lists for its values; what is none stays, to be refused."""
    if not isinstance(mapping, Mapping):
        return mapping
    is_plain = (str, bytes)
    return {
        child: list(nodes)
        if isinstance(nodes, Sequence) and not isinstance(nodes, is_plain)
        else nodes
        for child, nodes in mapping.items()
    }
