"""A process that runs summaries: children that put the readings of a site together.

Each tells the board, a child in Node.js, what it has.

    python summaries.py NAME [SEED]

Prints its address, runs until its input ends, and prints what became of its children.
"""

import dataclasses
import json
import sys
from typing import Any

import process_hub as ph

TELL_EVERY = 20
"""The board is told after so many readings, and when a sensor is done."""


class Summary(ph.Child):
    """Lowest, highest and sum of what the sensors of a site read."""

    def start(self, ctx: ph.Context, args: Any) -> None:
        """Begin without readings."""
        self.ctx = ctx
        self.state = {"count": 0, "min": None, "max": None, "sum": 0, "next": {}}

    def handle(self, message: dict[str, Any]) -> None:
        """Take a reading, or note that a sensor is done."""
        figures, sensor = self.state, str(message["sensor"])
        is_done = "done" in message
        # A sensor that was not answered tells a reading again: it counts once.
        if not is_done and message["n"] == figures["next"].get(sensor, 0):
            value = message["value"]
            figures["next"][sensor] = message["n"] + 1
            figures["count"] += 1
            figures["sum"] += value
            is_first = figures["count"] == 1
            figures["min"] = value if is_first else min(figures["min"], value)
            figures["max"] = value if is_first else max(figures["max"], value)
        if is_done or figures["count"] % TELL_EVERY == 0:
            told = {key: figures[key] for key in ("count", "min", "max", "sum")}
            site = self.ctx.child_id.removeprefix("summary:")
            self.ctx.hub.call("board", {"site": site, **told}, timeout=1.5)


def main(name: str, *seeds: str) -> None:
    """Run summaries until the input ends."""
    hub = ph.Hub(
        "weather",
        kinds={"summary": Summary},
        name=name,
        seeds=seeds,
        migration=ph.HotSwap(handover=True),
        profile="fast",
    )
    hub.start()
    print(json.dumps({"address": hub.address}), flush=True)
    sys.stdin.read()
    print(json.dumps(dataclasses.asdict(hub.stop())), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
