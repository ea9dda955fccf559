"""What this agent does with each command (tests/agents/README.md)."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import process_hub as ph

import lines
import values
from probe import Probe
from strategies import strategies

_KINDS = ("probe", "probe_python")
_START_OPTIONS = (
    "check_existing",
    "if_exists",
    "on_failure",
    "metadata",
    "child_mapping",
)
_EXIT_SECONDS = 20.0

Arguments = dict[str, Any]


def bad(message: str) -> ph.InvalidArgumentError:
    """Return the error of a request that makes no sense."""
    return ph.InvalidArgumentError(message, operation="agent")


def argument(arguments: Mapping[str, Any], key: str, kind: type, *default: Any) -> Any:
    """Return an argument of a type; without a default it has to be there."""
    value = arguments.get(key)
    if value is None:
        if not default:
            raise bad(f"`{key}` is missing")
        return default[0]
    is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not is_right:
        raise bad(f"`{key}` must be of the type {kind.__name__}, not {value!r}")
    return value


def options(arguments: Arguments, *known: str) -> Arguments:
    """Return the options of an operation, those that are there."""
    given = argument(arguments, "options", dict, {})
    unknown = sorted(set(given) - {"timeout_ms", *known})
    if unknown:
        raise bad(f"unknown options: {', '.join(unknown)}")
    found = {key: given[key] for key in known if given.get(key) is not None}
    timeout_ms = argument(given, "timeout_ms", int, None)
    return found if timeout_ms is None else {**found, "timeout": timeout_ms / 1000}


def seconds(arguments: Arguments, default_ms: int) -> float:
    """Return `timeout_ms` as the Python interface wants it."""
    timeout_ms: int = argument(arguments, "timeout_ms", int, default_ms)
    return timeout_ms / 1000


def message_of(arguments: Arguments) -> Any:
    """Return the message of `call` and `send`."""
    payload = argument(arguments, "payload", dict, None)
    return arguments.get("message") if payload is None else values.given(payload)


def start_result(result: ph.StartResult) -> dict[str, Any]:
    """Return the document of a StartResult."""
    return {
        "status": result.status,
        "started": [asdict(started) for started in result.started],
        "errors": [asdict(error) for error in result.errors],
        "rollback": result.rollback,
    }


class Agent:
    """The nodes and hubs of this process."""

    def __init__(self) -> None:
        self._nodes: list[tuple[ph.Node, set[str]]] = []
        self._hubs: dict[str, ph.AsyncHub] = {}
        # Of requests without `wait`: nobody else holds them.
        self._begun: set[asyncio.Future[Any]] = set()

    async def perform(self, arguments: Arguments) -> Any:
        """Carry out one request and return what to answer."""
        command = argument(arguments, "cmd", str)
        if command in _PROCESS_COMMANDS:
            return await _PROCESS_COMMANDS[command](self, arguments)
        if command not in _HUB_COMMANDS:
            raise bad(f"no such cmd: {command}")
        hub_id = argument(arguments, "hub_id", str)
        if hub_id not in self._hubs:
            raise bad(f"there is no hub {hub_id!r} here")
        return await _HUB_COMMANDS[command](self, self._hubs[hub_id], arguments)

    async def info(self, arguments: Arguments) -> Any:
        """Say who we are."""
        return {"language": "python", "version": ph.__version__, "pid": os.getpid()}

    async def start_hub(self, arguments: Arguments) -> Any:
        """Start a hub, on a node of its own or on the first one."""
        config = argument(arguments, "config", dict)
        names = argument(arguments, "kinds", list, list(_KINDS))
        kinds = {name: Probe for name in names}
        given = argument(arguments, "strategies", dict, {})
        deciders = strategies(config.get("hub_id"), given)
        if config.get("node") is None:
            if not self._nodes:
                # Refused as a whole, with all that is wrong with it.
                raise ph.InvalidConfigError(
                    "node: is missing, and this agent has none yet", operation="start"
                )
            node, hubs = self._nodes[0]
        else:
            node, hubs = await self._start_node(config, kinds), set()
        hub = ph.AsyncHub.from_config(
            config, kinds=kinds, node=node, strategies=deciders
        )
        try:
            await hub.start()
        except BaseException:
            if not hubs:
                await asyncio.to_thread(node.stop)
            raise
        if not hubs:
            self._nodes.append((node, hubs))
        hubs.add(hub.hub_id)
        self._hubs[hub.hub_id] = hub
        return {"hub_id": hub.hub_id, "node": hub.node_name, "address": hub.address}

    async def _start_node(self, config: Arguments, kinds: dict[str, Any]) -> ph.Node:
        node = ph.Node.from_config(config["node"], profile=config.get("profile"))
        try:
            return await asyncio.to_thread(node.start)
        except ph.InvalidConfigError:
            # The hub's own start names the problems of the whole document.
            await ph.AsyncHub.from_config(config, kinds=kinds).start()
            raise

    async def start_children(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Start children."""
        specs = argument(arguments, "specs", list)
        wait = argument(arguments, "wait", bool, True)
        pending = hub.start_children(specs, **options(arguments, *_START_OPTIONS))
        return start_result(await pending) if wait else self._go(pending, "start")

    async def stop_children(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Stop children."""
        ids = argument(arguments, "ids", list)
        wait = argument(arguments, "wait", bool, True)
        pending = hub.stop_children(ids, **options(arguments))
        return asdict(await pending) if wait else self._go(pending, "stop")

    def _go(self, pending: asyncio.Future[Any], what: str) -> str:
        if pending.done():
            pending.result()
        self._begun.add(pending)
        pending.add_done_callback(self._ended)
        return f"{what}_initiated"

    def _ended(self, pending: asyncio.Future[Any]) -> None:
        self._begun.discard(pending)
        if not pending.cancelled():
            pending.exception()

    async def child_lookup(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Look up one row."""
        row = hub.child_lookup(argument(arguments, "child_id", str))
        return None if row is None else row.to_json()

    async def process_registry(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return every row."""
        return {id: row.to_json() for id, row in hub.process_registry().items()}

    async def which_children(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the children of this node or of all."""
        scope = argument(arguments, "scope", str, "local")
        return await hub.which_children(scope)

    async def tag_query(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the rows with a tag."""
        rows = hub.tag_query(argument(arguments, "tag", str))
        return [row.to_json() for row in rows]

    async def metadata_query(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the rows with a key in their metadata."""
        rows = hub.metadata_query(argument(arguments, "key", str))
        return [row.to_json() for row in rows]

    async def nodes(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the members."""
        return hub.nodes(argument(arguments, "include_local", bool, False))

    async def is_alive(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Whether the hub runs."""
        return hub.is_alive()

    async def is_locked(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Whether moves are open."""
        return hub.is_locked()

    async def is_partitioned(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Whether there is no quorum."""
        return hub.is_partitioned()

    async def call(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Send a message and return the reply."""
        reply = await hub.call(
            argument(arguments, "child_id", str),
            message_of(arguments),
            timeout=seconds(arguments, 5000),
            node=argument(arguments, "node", str, None),
        )
        return values.shown(reply)

    async def send(self, hub: ph.AsyncHub, arguments: Arguments) -> None:
        """Send a message."""
        await hub.send(
            argument(arguments, "child_id", str),
            message_of(arguments),
            node=argument(arguments, "node", str, None),
            all=argument(arguments, "all", bool, False),
        )

    async def subscribe(self, hub: ph.AsyncHub, arguments: Arguments) -> None:
        """Write an event for each firing of a hook."""
        hook = argument(arguments, "hook", str)
        line = {"event": "hook", "hub_id": hub.hub_id, "hook": hook}
        hub.on(hook, lambda payload: lines.write({**line, "payload": payload}), "agent")

    async def drain(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Give every child away."""
        return asdict(await hub.drain(seconds(arguments, 60_000)))

    async def stop_hub(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Stop a hub, and its node if it was the last one there."""
        return await self._stop(hub, seconds(arguments, 60_000))

    async def _stop(self, hub: ph.AsyncHub, timeout: float) -> Any:
        try:
            return asdict(await hub.stop(timeout))
        finally:
            for node, hubs in tuple(self._nodes):
                if hubs == {hub.hub_id}:
                    self._nodes.remove((node, hubs))
                    await asyncio.to_thread(node.stop)
                hubs.discard(hub.hub_id)

    async def where(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return where a child is, and why."""
        return await hub.where(argument(arguments, "child_id", str))

    async def plan(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return what would move."""
        keys = ("join", "leave")
        direct = {key: arguments[key] for key in keys if arguments.get(key) is not None}
        return await hub.plan(argument(arguments, "change", dict, direct))

    async def sync(self, hub: ph.AsyncHub, arguments: Arguments) -> None:
        """Wait until the others know what we know."""
        await hub.sync(seconds(arguments, 5000))

    async def acknowledge_loss(self, hub: ph.AsyncHub, arguments: Arguments) -> None:
        """Clear `state_lost`."""
        await hub.acknowledge_loss(argument(arguments, "child_id", str))

    async def metrics_text(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the metrics."""
        return hub.metrics_text()

    async def debug_stats(self, hub: ph.AsyncHub, arguments: Arguments) -> Any:
        """Return the counts."""
        return hub.debug_stats()

    async def reset_cluster_size(self, hub: ph.AsyncHub, arguments: Arguments) -> None:
        """Let fewer members count."""
        await hub.reset_cluster_size(argument(arguments, "n", int))

    async def close(self) -> None:
        """Stop every hub, gracefully, all at once."""
        alive = [hub for hub in self._hubs.values() if hub.is_alive()]
        stops = [self._stop(hub, _EXIT_SECONDS) for hub in alive]
        await asyncio.gather(*stops, return_exceptions=True)


_PROCESS_COMMANDS: dict[str, Callable[[Agent, Arguments], Awaitable[Any]]] = {
    command.__name__: command for command in (Agent.info, Agent.start_hub)
}
_HUB_COMMANDS: dict[str, Callable[[Agent, ph.AsyncHub, Arguments], Awaitable[Any]]] = {
    command.__name__: command
    for command in (
        Agent.start_children,
        Agent.stop_children,
        Agent.child_lookup,
        Agent.process_registry,
        Agent.which_children,
        Agent.tag_query,
        Agent.metadata_query,
        Agent.nodes,
        Agent.is_alive,
        Agent.is_locked,
        Agent.is_partitioned,
        Agent.call,
        Agent.send,
        Agent.subscribe,
        Agent.drain,
        Agent.stop_hub,
        Agent.where,
        Agent.plan,
        Agent.sync,
        Agent.acknowledge_loss,
        Agent.metrics_text,
        Agent.debug_stats,
        Agent.reset_cluster_size,
    )
}
