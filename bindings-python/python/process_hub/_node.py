"""A node that several hubs share."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

from process_hub import _config
from process_hub._lifecycle import process
from process_hub._native import NativeNode, generation
from process_hub.errors import InvalidArgumentError, NotStartedError


class Node:
    """One member of the cluster, for several hubs of this process over one port.

    The options are those of `Hub` for its own node. A hub started with ``node=`` does
    not stop it: stop the node, or leave its context, after its hubs.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        seeds: Sequence[str] | None = None,
        security: Any = None,
        labels: Mapping[str, str] | None = None,
        weight: float | None = None,
        profile: str | Mapping[str, Any] | None = None,
    ) -> None:
        self._config = _config.document(
            {
                "name": name,
                "listen": listen,
                "advertise": advertise,
                "seeds": seeds,
                "security": security,
                "labels": labels,
                "weight": weight,
                "profile": profile,
            }
        )
        self._native: NativeNode | None = None
        self._generation = generation()

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        profile: str | Mapping[str, Any] | None = None,
    ) -> Node:
        """Make a node of the object `node` of the configuration document.

        Its keys `profile` and `hubs_discover_interval_ms` are read here, too.
        """
        node = cls()
        node._config = _config.mapping(config, "start_node")
        if profile is not None:
            node._config["profile"] = profile
        return node

    def start(self) -> Node:
        """Listen, and begin to look for the other nodes."""
        if self._native is not None:
            message = "the node was started before; make another one"
            raise InvalidArgumentError(message, operation="start_node")
        process.check_start()
        self._native = NativeNode(json.dumps(self._config))
        process.opened(self)
        return self

    def stop(self) -> None:
        """Leave the cluster; hubs that still run on it lose their members."""
        self.native("stop").stop(None)
        process.closed(self)

    def native(self, operation: str) -> NativeNode:
        """Return the native node, or raise that it was not started."""
        if self._native is None:
            message = "the node was made but not started: use `with` or `start()`"
            raise NotStartedError(message, operation=operation)
        return self._native

    def close_at_exit(self, timeout: float) -> None:
        """Leave the cluster: for the end of the process."""
        try:
            self.stop()
        except Exception as error:
            warnings.warn(f"{self!r} did not stop: {error}", stacklevel=1)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.native("name").name

    @property
    def address(self) -> str:
        """The ``host:port`` that peers are told."""
        return self.native("address").address

    def __enter__(self) -> Node:
        return self if self._native is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._generation == generation():
            self.stop()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("a Node belongs to one process and cannot be pickled")

    def __repr__(self) -> str:
        return f"<Node {self._config.get('name')!r}>"
