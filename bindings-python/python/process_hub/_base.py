"""What the blocking and the asynchronous hub share."""

from __future__ import annotations

import json
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from process_hub import _config
from process_hub._child import Child, Kind
from process_hub._current import chain_of, runs_inside
from process_hub._durations import Duration, to_ms
from process_hub._futures import Requests
from process_hub._hooks import INTERCEPTOR_HOOK, Handler, Hooks, Interceptor
from process_hub._host import Host, handler_table
from process_hub._kinds import Kinds, has_handover
from process_hub._lifecycle import process
from process_hub._loops import Loop
from process_hub._native import NativeHub, NativeStartResult, Row, generation
from process_hub._node import Node
from process_hub._results import DrainReport, drain_report
from process_hub._spec import ChildSpec, Spec, make_spec, plain_mapping
from process_hub._strategies import Strategies, strategy_table
from process_hub.errors import (
    ClosedError,
    InvalidArgumentError,
    NotStartedError,
    WouldDeadlockError,
)

_JOIN_SECONDS = 1.0


class BaseHub:
    """One hub of this process: configuration, kinds, hooks, and local reads.

    Parameters
    ----------
    hub_id
        Hubs with the same id on connected nodes form one hub cluster.
    kinds
        The code this hub can run: names and subclasses of `Child`.
    name, listen, advertise, seeds, security, labels, weight
        The node to make for this hub: its name, unique in the cluster; ``host:port``
        to listen on and to tell peers; where other nodes may be; how peers prove
        themselves; labels; and its share of the children.
    node
        A `Node` to run on instead of one of its own.
    child_specs
        Static children: ensured by every node that lists them.
    redundancy, migration, synchronization, partition_tolerance, distribution
        The strategies, such as ``HotSwap(handover=True)``.
    restart
        The restart budget of each child.
    hubs_discover_interval, deadlock_recovery_timeout, migration_base_timeout
        How often seeds are tried again; when open moves are aborted; and one child's
        budget for a move.
    shutdown_timeout
        How long `stop` may take.
    host_threads
        How many synchronous callbacks may run at a time.
    profile
        Failure detection: ``"fast"``, ``"lan"``, ``"wan"`` or an object of timers.
    strategies
        The functions that decide where a strategy is `Custom`, by family and name:
        ``{"migration": {"mine": order}}``.
    hooks
        Handlers by the name of their hook: a callable or a list of them.
    """

    def __init__(
        self,
        hub_id: str,
        *,
        kinds: Mapping[str, type[Child] | Kind] | None = None,
        name: str | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        seeds: Sequence[str] | None = None,
        security: Any = None,
        labels: Mapping[str, str] | None = None,
        weight: float | None = None,
        node: Node | None = None,
        child_specs: Sequence[Spec] | None = None,
        redundancy: Any = None,
        migration: Any = None,
        synchronization: Any = None,
        partition_tolerance: Any = None,
        distribution: Any = None,
        restart: Any = None,
        hubs_discover_interval: Duration | None = None,
        deadlock_recovery_timeout: Duration | None = None,
        migration_base_timeout: Duration | None = None,
        shutdown_timeout: Duration | None = None,
        host_threads: int | None = None,
        profile: str | Mapping[str, Any] | None = None,
        strategies: Strategies | None = None,
        hooks: Mapping[str, Any] | None = None,
    ) -> None:
        own_node = _config.document(
            {
                "name": name,
                "listen": listen,
                "advertise": advertise,
                "seeds": seeds,
                "security": security,
                "labels": labels,
                "weight": weight,
            }
        )
        config = _config.document(
            {
                "hub_id": hub_id,
                "child_specs": child_specs,
                "redundancy": redundancy,
                "migration": migration,
                "synchronization": synchronization,
                "partition_tolerance": partition_tolerance,
                "distribution": distribution,
                "restart": restart,
                "hubs_discover_interval": hubs_discover_interval,
                "deadlock_recovery_timeout": deadlock_recovery_timeout,
                "migration_base_timeout": migration_base_timeout,
                "shutdown_timeout": shutdown_timeout,
                "host_threads": host_threads,
                "profile": profile,
            }
        )
        if node is None:
            config["node"] = own_node
        elif own_node:
            message = "`node` is given, so these options belong to it"
            given = ", ".join(sorted(own_node))
            raise InvalidArgumentError(f"{message}: {given}", operation="start")
        self._prepare(config, kinds, node, strategies, hooks)

    @classmethod
    def _of_config(
        cls,
        config: Mapping[str, Any],
        kinds: Mapping[str, type[Child] | Kind] | None,
        node: Node | None,
        strategies: Strategies | None,
        hooks: Mapping[str, Any] | None,
    ) -> Any:
        document = _config.mapping(config, "start")
        hub = cls.__new__(cls)
        if node is None:
            document.setdefault("node", {})
        hub._prepare(document, kinds, node, strategies, hooks)
        return hub

    def _prepare(
        self,
        config: dict[str, Any],
        kinds: Mapping[str, type[Child] | Kind] | None,
        node: Node | None,
        strategies: Strategies | None,
        hooks: Mapping[str, Any] | None,
    ) -> None:
        self._native: NativeHub | None = None
        self._state: Literal["made", "started", "closed"] = "made"
        self._generation = generation()
        self._lock = threading.Lock()
        self._config = config
        self._node = node
        self._has_handover = has_handover(config.get("migration"))
        self._kinds = Kinds()
        self._requests = Requests()
        loop = self._make_loop()
        self._hooks = Hooks(loop)
        self._host = Host(
            kinds=self._kinds,
            strategies=strategy_table(strategies),
            loop=loop,
            hub=weakref.ref(self),
            name=str(config.get("hub_id", "")),
        )
        self._host.interceptors = self._hooks.intercept
        self._host.on_completed = self._requests.completed
        for kind, code in (kinds or {}).items():
            self._kinds.register(kind, code, has_handover=self._has_handover)
        for hook, handler in handler_table(hooks or {}):
            if hook == INTERCEPTOR_HOOK:
                self._hooks.add_interceptor(handler)
            else:
                self._hooks.add(hook, handler)

    def _make_loop(self) -> Loop:
        return Loop()

    # --- starting and ending ---------------------------------------------------

    def _start_native(self) -> None:
        process.check_start()
        with self._lock:
            if self._state != "made":
                message = f"the hub was {self._state} before; make another one"
                raise InvalidArgumentError(message, operation="start")
            node = None if self._node is None else self._node.native("start")
            native = NativeHub(
                json.dumps(self._config),
                self._kinds.infos(),
                list(self._host.strategies),
                node,
            )
            self._native = native
            self._state = "started"
        process.opened(self)
        self._host.begin(native)
        self._hooks.begin(native)

    def _check_stop(self) -> None:
        if runs_inside(self._host):
            message = "a callback cannot stop its own hub and wait for it"
            raise WouldDeadlockError(message, operation="stop")

    def _stop_native(self, timeout: Duration | None) -> DrainReport:
        native = self._started("stop", even_closed=True)
        try:
            return drain_report(native.stop(_optional_ms(timeout)))
        finally:
            if not native.is_alive():
                self._ended(native)

    def _ended(self, native: NativeHub) -> None:
        self._state = "closed"
        native.close_threads()
        self._hooks.close()
        self._host.join(_JOIN_SECONDS)
        process.closed(self)

    def close_at_exit(self, timeout: float) -> None:
        """Leave the cluster, bounded: for the end of the process."""
        try:
            self._stop_native(timeout)
        except Exception as error:
            warnings.warn(f"{self!r} did not leave: {error}", stacklevel=1)
        self._hooks.join(_JOIN_SECONDS)

    def _is_forked(self) -> bool:
        return self._generation != generation()

    def _started(self, operation: str, *, even_closed: bool = False) -> NativeHub:
        """Return the native hub, or raise why there is none."""
        native = self._native
        if native is None:
            message = "the hub was made but not started: use `with` or `start()`"
            raise NotStartedError(message, operation=operation)
        if self._state == "closed" and not even_closed and not self._is_forked():
            raise ClosedError("the hub was stopped", operation=operation)
        return native

    def _check_open(self, operation: str) -> None:
        """Refuse what a stopped hub would never do; before the start all is open."""
        if self._native is not None:
            self._started(operation)

    def __del__(self) -> None:
        native = getattr(self, "_native", None)
        if native is None or self._state != "started" or self._is_forked():
            return
        warnings.warn(f"{self!r} was never stopped", ResourceWarning, stacklevel=1)
        native.abandon()
        self._hooks.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError(
            f"a {type(self).__name__} belongs to one process and cannot be pickled"
        )

    def __repr__(self) -> str:
        state = "forked" if self._is_forked() else self._state
        return f"<{type(self).__name__} {self._config.get('hub_id')!r} {state}>"

    # --- kinds and hooks -------------------------------------------------------

    def register(self, kind: str, code: type[Child] | Kind) -> None:
        """Add code that this hub can run, before or after it starts."""
        registered = self._kinds.register(kind, code, has_handover=self._has_handover)
        if self._native is not None:
            native = self._started("register")
            self._requests.forget(native.register([registered.info()]))

    def on(
        self,
        hook: str,
        handler: Handler,
        id: str | None = None,
        priority: int = 0,
    ) -> str:
        """Call `handler` with the payload of each firing of a hook.

        Handlers run on one thread of their own, higher priority first, then in order
        of registration; a slow or failing one delays nothing else. The same id for
        the same hook replaces.

        Returns
        -------
        str
            The handler's id, for `off`.
        """
        self._check_open("on")
        return self._hooks.add(hook, handler, id, priority)

    def intercept(
        self,
        hook: Literal["child_data_alter"],
        handler: Interceptor,
        id: str | None = None,
        priority: int = 0,
    ) -> str:
        """Let `handler` change specs before their start.

        It is given the `ChildSpec` and the names of the nodes, and returns another
        spec, or None to leave it. After an exception the spec
        stays as it was, and the hook ``child_failed`` tells.
        """
        if hook != INTERCEPTOR_HOOK:
            message = f"only {INTERCEPTOR_HOOK} can be intercepted, not {hook!r}"
            raise InvalidArgumentError(message, operation="intercept")
        self._check_open("intercept")
        return self._hooks.add_interceptor(handler, id, priority)

    def off(self, hook: str, id: str) -> bool:
        """Remove a handler; says whether there was one."""
        return self._hooks.remove(hook, id)

    # --- local reads -----------------------------------------------------------

    def child_lookup(self, child_id: str) -> Row | None:
        """Return what the registry knows of a child; local, without the network."""
        native = self._native
        if native is None or self._state == "closed":
            native = self._started("child_lookup")
        return native.child_lookup(child_id)

    def process_registry(self) -> dict[str, Row]:
        """Return every row by its child's id."""
        return self._started("process_registry").process_registry()

    def tag_query(self, tag: str) -> list[Row]:
        """Return the rows whose metadata has this ``tag``."""
        return self._started("tag_query").tag_query(tag)

    def metadata_query(self, key: str) -> list[Row]:
        """Return the rows whose metadata has this key."""
        return self._started("metadata_query").metadata_query(key)

    def nodes(self, include_local: bool = False) -> list[str]:
        """Return the names of the members of this hub."""
        return self._started("nodes").nodes(include_local)

    @property
    def hub_id(self) -> str:
        """The id of this hub."""
        return str(self._config.get("hub_id", ""))

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._started("node_name").node_name

    @property
    def address(self) -> str:
        """The ``host:port`` that peers are told."""
        return self._started("address").address

    def is_alive(self) -> bool:
        """Whether the hub runs."""
        native = self._native
        return native is not None and self._state == "started" and native.is_alive()

    def is_locked(self) -> bool:
        """Whether this node has moves open or lacks quorum."""
        return self._started("is_locked").is_locked()

    def is_partitioned(self) -> bool:
        """Whether this side of the cluster has no quorum."""
        return self._started("is_partitioned").is_partitioned()

    def metrics_text(self) -> str:
        """Return the hub's metrics as Prometheus text."""
        return self._started("metrics_text").metrics_text()

    def debug_stats(self) -> dict[str, int]:
        """Return counts of what this process holds."""
        stats = self._started("debug_stats").debug_stats()
        stats["instances"] = self._host.instance_count()
        return stats

    # --- arguments of operations -----------------------------------------------

    def _specs(self, specs: Sequence[Spec]) -> list[Any]:
        if isinstance(specs, (str, bytes, Mapping, ChildSpec)):
            message = f"specs must be a list of ChildSpec, not {specs!r}"
            raise InvalidArgumentError(message, operation="start_children")
        if not self._kinds.codecs:
            return list(specs)
        return [self._encode_spec(spec) for spec in specs]

    def _encode_spec(self, spec: Spec) -> Any:
        if not isinstance(spec, ChildSpec):
            return spec
        arguments = self._kinds.encode_for(spec.kind, spec.args)
        if arguments is spec.args:
            return spec
        options = {**vars(spec), "args": arguments}
        return ChildSpec(**options)

    def _message(self, child_id: str, message: Any) -> Any:
        """Return the message, written for the kind of the child."""
        if not self._kinds.codecs:
            return message
        row = self.child_lookup(child_id)
        return self._kinds.encode_for(None if row is None else row.kind, message)

    def _chain(self) -> Sequence[str] | None:
        return chain_of(self._host)

    # --- operations that are begun here and awaited there ----------------------

    def _begin_start_child(
        self,
        spec: Spec | str,
        kind: str | None,
        timeout: Duration | None,
        check_existing: bool,
        if_exists: str,
        **options: Any,
    ) -> int | NativeStartResult:
        specs = self._specs([make_spec(spec, kind, options)])
        native = self._started("start_child")
        return native.start_children(
            specs,
            {
                "timeout_ms": _optional_ms(timeout),
                "check_existing": check_existing,
                "if_exists": if_exists,
            },
        )

    def _begin_start_children(
        self,
        specs: Sequence[Spec],
        timeout: Duration | None,
        check_existing: bool,
        if_exists: str,
        on_failure: str,
        metadata: Mapping[str, Any] | None,
        child_mapping: Mapping[str, Sequence[str]] | None,
    ) -> int | NativeStartResult:
        native = self._started("start_children")
        return native.start_children(
            self._specs(specs),
            {
                "timeout_ms": _optional_ms(timeout),
                "check_existing": check_existing,
                "if_exists": if_exists,
                "on_failure": on_failure,
                "metadata": None if metadata is None else dict(metadata),
                "child_mapping": plain_mapping(child_mapping),
            },
        )

    def _begin_stop(
        self, operation: str, child_ids: Sequence[str], timeout: Duration
    ) -> int:
        native = self._started(operation)
        return native.stop_children(list(child_ids), to_ms(timeout, "timeout"))


def _optional_ms(timeout: Duration | None) -> int | None:
    return None if timeout is None else to_ms(timeout, "timeout")
