"""The child that every agent runs (tests/agents/README.md)."""

import asyncio
import collections
import ctypes
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import process_hub as ph

import lines
import values

_MAX_LOG_ENTRIES = 1000


def merged(own: dict[str, Any], other: dict[str, Any], how: str) -> dict[str, Any]:
    """Return what `merge` makes of two data."""
    result = dict(own) if how in ("max", "union") else {}
    for key, value in other.items():
        mine = result.get(key)
        if how == "max" and _is_number(mine) and _is_number(value):
            result[key] = max(mine, value)
        elif how == "union" and isinstance(mine, list) and isinstance(value, list):
            result[key] = mine + [item for item in value if item not in mine]
        else:
            result[key] = value
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Probe(ph.Child):
    """Holds `data` and tells what happens to it."""

    async def start(self, ctx: ph.Context, args: Any) -> None:
        """Begin as the arguments say."""
        self.ctx = ctx
        self.args: dict[str, Any] = args if isinstance(args, dict) else {}
        self.data: dict[str, Any] = dict(self.args.get("data") or {})
        self.instance = secrets.token_hex(8)
        self.log: collections.deque[dict[str, Any]] = collections.deque(
            maxlen=_MAX_LOG_ENTRIES
        )
        self._tell("start", str(ctx.start_reason))
        await asyncio.sleep(self.args.get("start_delay_ms", 0) / 1000)
        if "fail" in self.args:
            raise RuntimeError(self.args["fail"])

    async def run(self, ctx: ph.Context) -> None:
        """End as the arguments say, or with the instance."""
        self._note("run", None)
        wanted = self.args.get("run")
        if wanted is None:
            await asyncio.Event().wait()
            return
        await asyncio.sleep(wanted["ms"] / 1000)
        if wanted["then"] == "throw":
            raise RuntimeError("the body throws")

    async def handle(self, message: Any) -> Any:
        """Do what the message says."""
        if not values.is_json(message):
            self._note("handle", None)
            return message
        op = message.get("op") if isinstance(message, dict) else None
        self._note("handle", op)
        operation = OPERATIONS.get(op) if isinstance(op, str) else None
        if operation is None:
            raise ValueError(f"no such op: {message!r}")
        return await operation(self, message)

    async def redundancy_signal(self, mode: ph.Mode) -> None:
        """Tell the role."""
        self._tell("redundancy_signal", str(mode))
        await self._hang("signal")

    def handover_start(self, target: ph.HandoverTarget) -> None:
        """Note the target."""
        self._note("handover_start", target.node or target.error)

    async def prepare_handover_state(self) -> Any:
        """Give `data`."""
        has_state = not self.args.get("no_state", False)
        self._tell("prepare_handover_state", self.data if has_state else None)
        await self._hang("prepare")
        if not has_state:
            return None
        pad_bytes = self.args.get("pad_bytes", 0)
        return {"data": self.data, **({"pad": "x" * pad_bytes} if pad_bytes else {})}

    async def alter_handover_state(self, state: Any) -> None:
        """Take `data`."""
        self._tell("alter_handover_state", state["data"])
        await self._hang("alter")
        how = self.args.get("merge", "replace")
        self.data = merged(self.data, state["data"], how)

    def resolve_conflict(self, state: Any) -> None:
        """Keep the own data, unless told otherwise."""
        self._note("resolve_conflict", state["data"])
        if "merge" in self.args:
            self.data = merged(self.data, state["data"], self.args["merge"])

    async def stop(self, reason: ph.StopReason) -> None:
        """Tell the reason."""
        self._tell("stop", str(reason))
        await self._hang("stop")

    def _note(self, what: str, detail: Any) -> None:
        self.log.append({"what": what, "detail": detail})

    def _tell(self, what: str, detail: Any) -> None:
        self._note(what, detail)
        lines.write(
            {
                "event": "child",
                "hub_id": self.ctx.hub_id,
                "child_id": self.ctx.child_id,
                "node": self.ctx.node,
                "instance": self.instance,
                "epoch": self.ctx.epoch,
                "what": what,
                "detail": detail,
            }
        )

    async def _hang(self, callback: str) -> None:
        if self.args.get("hang_in") == callback:
            await asyncio.sleep(self.args["ms"] / 1000)

    # --- messages --------------------------------------------------------------

    async def _put(self, message: dict[str, Any]) -> str:
        self.data[message["key"]] = message["value"]
        return "ok"

    async def _add(self, message: dict[str, Any]) -> Any:
        self.data[message["key"]] = self.data.get(message["key"], 0) + message["n"]
        return self.data[message["key"]]

    async def _get(self, message: dict[str, Any]) -> Any:
        return self.data.get(message["key"])

    async def _state(self, message: dict[str, Any]) -> Any:
        return self.data

    async def _who(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "node": self.ctx.node,
            "language": "python",
            "pid": os.getpid(),
            "epoch": self.ctx.epoch,
            "mode": str(self.ctx.mode),
            "start_reason": str(self.ctx.start_reason),
            "instance": self.instance,
        }

    async def _log(self, message: dict[str, Any]) -> Any:
        return list(self.log)

    async def _throw(self, message: dict[str, Any]) -> None:
        raise RuntimeError(message["text"])

    async def _crash(self, message: dict[str, Any]) -> str:
        self.ctx.exit("the probe crashes")
        return "ok"

    async def _exit_process(self, message: dict[str, Any]) -> None:
        os._exit(1)

    async def _sleep(self, message: dict[str, Any]) -> str:
        await asyncio.sleep(message["ms"] / 1000)
        return "ok"

    async def _stop_self(self, message: dict[str, Any]) -> str:
        self.ctx.stop_self()
        return "ok"

    async def _echo(self, message: dict[str, Any]) -> Any:
        return message["value"]

    async def _call(self, message: dict[str, Any]) -> Any:
        timeout = message.get("timeout_ms", 5000) / 1000
        return await self.ctx.hub.call(
            message["child_id"], message["message"], timeout=timeout
        )

    async def _block(self, message: dict[str, Any]) -> str:
        # A PyDLL keeps the GIL while it calls.
        ctypes.PyDLL(None).usleep(message["ms"] * 1000)
        return "ok"


OPERATIONS: dict[str, Callable[[Probe, dict[str, Any]], Awaitable[Any]]] = {
    "put": Probe._put,
    "add": Probe._add,
    "get": Probe._get,
    "state": Probe._state,
    "who": Probe._who,
    "log": Probe._log,
    "throw": Probe._throw,
    "crash": Probe._crash,
    "exit_process": Probe._exit_process,
    "sleep": Probe._sleep,
    "stop_self": Probe._stop_self,
    "echo": Probe._echo,
    "call": Probe._call,
    "block": Probe._block,
}
