"""The kinds a hub can run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from process_hub._child import Child, Codec, Kind
from process_hub._native import Payload
from process_hub.errors import InvalidArgumentError, NotEncodableError

_LOGGER = logging.getLogger("process_hub")
_CALLBACKS = (
    "start",
    "run",
    "handle",
    "redundancy_signal",
    "handover_start",
    "prepare_handover_state",
    "alter_handover_state",
    "resolve_conflict",
    "stop",
)
_HANDOVER_CALLBACKS = (
    "handover_start",
    "prepare_handover_state",
    "alter_handover_state",
)


class Registered:
    """What the host needs to know of a kind, looked up once."""

    __slots__ = (
        "asynchronous",
        "codec",
        "handles_here",
        "make",
        "name",
        "overridden",
        "stateless",
    )

    def __init__(self, name: str, code: type[Child] | Kind) -> None:
        kind = code if isinstance(code, Kind) else Kind(code)
        if not (isinstance(kind.child, type) and issubclass(kind.child, Child)):
            message = f"the code of kind {name!r} must be a subclass of Child or a Kind"
            raise InvalidArgumentError(f"{message}, not {code!r}", operation="register")
        self.name = name
        self.make: Callable[[], Child] = kind.factory or kind.child
        self.codec = kind.codec
        self.stateless = kind.child.stateless
        methods = {name: getattr(kind.child, name) for name in _CALLBACKS}
        self.overridden = frozenset(
            name for name, method in methods.items() if method is not vars(Child)[name]
        )
        self.asynchronous = frozenset(
            name
            for name, method in methods.items()
            if inspect.iscoroutinefunction(method)
        )
        # Messages come most often: a thread of the host looks at nothing else.
        self.handles_here = "handle" not in self.asynchronous and kind.codec is None

    def encode(self, value: Any) -> Any:
        """Write a value with the kind's codec, if it has one."""
        return value if self.codec is None else encode_with(self.codec, value)

    def decode(self, value: Any) -> Any:
        """Read a value with the kind's codec, if it was written with it."""
        codec = self.codec
        if (
            codec is not None
            and type(value) is Payload
            and value.content_type == codec.content_type
        ):
            return codec.decode(value.data)
        return value

    @property
    def has_state(self) -> bool:
        """Whether there is something to hand over, and so to lose."""
        return not self.stateless or "prepare_handover_state" in self.overridden

    @property
    def has_run(self) -> bool:
        """Whether the children have a body."""
        return "run" in self.overridden

    def info(self) -> tuple[str, bool, bool]:
        """Return what the core needs to know."""
        return (self.name, self.has_state, self.has_run)


class Kinds:
    """The kinds of one hub, and the codecs of their values."""

    def __init__(self) -> None:
        self.by_name: dict[str, Registered] = {}
        self.codecs: dict[str, Codec] = {}
        self._has_warned = False

    def register(
        self, name: str, code: type[Child] | Kind, *, has_handover: bool
    ) -> Registered:
        """Add a kind; warn, once, if its hand-over callbacks are never called."""
        kind = Registered(name, code)
        self.by_name[name] = kind
        if kind.codec is not None:
            self.codecs[kind.codec.content_type] = kind.codec
        unused = sorted(kind.overridden.intersection(_HANDOVER_CALLBACKS))
        if unused and not has_handover and not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "kind %r has %s, but this hub's migration never calls it: "
                "set the option `handover=True` of ColdSwap or HotSwap",
                name,
                ", ".join(unused),
            )
        return kind

    def infos(self) -> list[tuple[str, bool, bool]]:
        """Return what the core needs to know of each kind."""
        return [kind.info() for kind in self.by_name.values()]

    def encode_for(self, kind: str | None, value: Any) -> Any:
        """Write a value for a child of this kind, if the kind has a codec."""
        registered = self.by_name.get(kind) if kind is not None else None
        return value if registered is None else registered.encode(value)

    def decode(self, value: Any) -> Any:
        """Read a value that no kind was given for; what nobody reads stays."""
        if type(value) is Payload:
            codec = self.codecs.get(value.content_type)
            if codec is not None:
                return codec.decode(value.data)
        return value


def encode_with(codec: Codec, value: Any) -> Payload:
    """Write a value with a codec.

    Raises
    ------
    NotEncodableError
        If the codec fails.
    """
    try:
        return Payload(codec.encode(value), codec.content_type)
    except Exception as error:
        message = f"$: the codec {codec.content_type} failed: {error!r}"
        raise NotEncodableError(message, operation="encode") from error


def has_handover(migration: Any) -> bool:
    """Whether this part of the configuration has `handover` on."""
    if not isinstance(migration, Mapping):
        return False
    options: Mapping[str, Any] = migration
    return options.get("handover") is True or has_handover(options.get("base"))
