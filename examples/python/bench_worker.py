"""The Python side of `cargo xtask bench`: a process with one hub that obeys.

It reads one JSON object per line and answers each with one; the orders are those of
`tests/src/bench/worker.rs`.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import process_hub as ph

Order = dict[str, Any]

KIND = "w"
STATE = 42
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.001
CALLERS = 8


class Worker(ph.Child):
    """A child with a number for its state."""

    def start(self, ctx: ph.Context, args: Any) -> None:
        """Begin without a state."""
        self.state: int = 0

    def handle(self, message: Any) -> int:
        """Set the state if asked, and answer it."""
        if message == "put":
            self.state = STATE
        return self.state


class Node:
    """One hub and the orders it obeys."""

    def __init__(self) -> None:
        self.hub: ph.Hub

    def open(self, order: Order) -> Order:
        """Start the hub."""
        self.hub = ph.Hub(
            "bench",
            kinds={KIND: Worker},
            name=order["name"],
            seeds=order["seeds"],
            migration=ph.HotSwap(handover=True),
        ).start()
        return {"address": self.hub.address}

    def rss(self, order: Order) -> Order:
        """Tell the resident memory of this process."""
        gc.collect()
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return {"bytes": int(line.split()[1]) * 1024}
        raise RuntimeError("/proc/self/status without VmRSS")

    def members(self, order: Order) -> Order:
        """Wait for the members."""
        wait_until(lambda: len(self.hub.nodes(include_local=True)) == order["count"])
        return {}

    def warm_up(self, order: Order) -> Order:
        """Start and stop one child, which takes a cluster that is ready."""
        child = f"warm_up:{self.hub.node_name}"
        start = self.hub.start_child(child, KIND, timeout=PATIENCE_SECONDS)
        start.result(timeout=PATIENCE_SECONDS)
        stop = self.hub.stop_child(child, timeout=PATIENCE_SECONDS)
        stop.result(timeout=PATIENCE_SECONDS)
        return {}

    def start(self, order: Order) -> Order:
        """Start children in one call."""
        specs = [ph.ChildSpec(child, KIND) for child in ids(order["count"])]
        before = time.perf_counter()
        request = self.hub.start_children(specs, timeout=PATIENCE_SECONDS)
        result = request.result(timeout=PATIENCE_SECONDS)
        elapsed = time.perf_counter() - before
        result.raise_for_errors()
        return {"us": elapsed * 1e6}

    def stop(self, order: Order) -> Order:
        """Stop children in one call."""
        children = list(ids(order["count"]))
        before = time.perf_counter()
        request = self.hub.stop_children(children, timeout=PATIENCE_SECONDS)
        result = request.result(timeout=PATIENCE_SECONDS)
        elapsed = time.perf_counter() - before
        result.raise_for_errors()
        return {"us": elapsed * 1e6}

    def gone(self, order: Order) -> Order:
        """Wait until the registry is empty."""
        wait_until(lambda: not self.hub.process_registry())
        return {}

    def expect(self, order: Order) -> Order:
        """Wait until each child runs on its owner and nowhere else.

        A child once seen there is not looked at again until all are; then every one is
        looked at once more, which is the check whose time the answer tells.
        """
        owners = [order["nodes"][int(digit)] for digit in order["owners"]]
        expected = list(zip(ids(len(owners)), owners, strict=True))
        left = deque(expected)
        check = 0.0

        def is_there(child: str, owner: str) -> bool:
            row = self.hub.child_lookup(child)
            return row is not None and [it.node for it in row.instances] == [owner]

        def are_all_there() -> bool:
            nonlocal check
            while left and is_there(*left[0]):
                left.popleft()
            if left:
                return False
            before = time.perf_counter()
            left.extend(child for child in expected if not is_there(*child))
            check = time.perf_counter() - before
            return not left

        try:
            wait_until(are_all_there)
        except TimeoutError as error:
            message = f"{error}: {len(left)} of {len(expected)} are not in place"
            raise TimeoutError(message) from None
        return {"check_us": check * 1e6}

    def put(self, order: Order) -> Order:
        """Give every child its state."""
        return self.call_each(order["count"], "put")

    def states(self, order: Order) -> Order:
        """Tell how many children have the state they were given."""
        return self.call_each(order["count"], "get")

    def call_each(self, count: int, message: str) -> Order:
        """Call every child, a few at a time."""

        def call(child: str) -> bool:
            reply = self.hub.call(child, message, timeout=PATIENCE_SECONDS)
            return bool(reply == STATE)

        with ThreadPoolExecutor(CALLERS) as callers:
            return {"kept": sum(callers.map(call, ids(count)))}

    def lookup(self, order: Order) -> Order:
        """Measure the mean time of a lookup of a random child."""
        picks = random.Random(1).choices(list(ids(order["count"])), k=order["rounds"])
        lookup = self.hub.child_lookup
        found = 0
        before = time.perf_counter()
        for child in picks:
            if lookup(child) is not None:
                found += 1
        elapsed = time.perf_counter() - before
        if found != len(picks):
            raise RuntimeError(f"{len(picks) - found} lookups found nothing")
        return {"ns": elapsed * 1e9 / len(picks)}

    def call(self, order: Order) -> Order:
        """Measure the median time of calls, one after the other."""
        children = self.placed(remote=order["remote"])
        times = []
        for child in random.Random(1).choices(children, k=order["rounds"]):
            before = time.perf_counter()
            self.hub.call(child, "get")
            times.append(time.perf_counter() - before)
        times.sort()
        last = len(times) - 1
        return {
            "p50_us": times[last * 50 // 100] * 1e6,
            "p99_us": times[last * 99 // 100] * 1e6,
        }

    def stream(self, order: Order) -> Order:
        """Measure the mean time of calls to this node, a few at a time."""
        children = self.placed(remote=False)
        picks = random.Random(1).choices(children, k=order["rounds"])
        call = self.hub.call
        with ThreadPoolExecutor(CALLERS) as callers:
            before = time.perf_counter()
            share = [picks[first::CALLERS] for first in range(CALLERS)]
            list(callers.map(lambda own: [call(child, "get") for child in own], share))
            elapsed = time.perf_counter() - before
        return {"us": elapsed * 1e6 / len(picks)}

    def placed(self, *, remote: bool) -> list[str]:
        """Return the children that run elsewhere, or here."""
        own = self.hub.node_name
        rows = self.hub.process_registry().values()
        return [row.id for row in rows if (row.instances[0].node != own) == remote]

    def close(self, order: Order) -> Order:
        """Give the children away and leave."""
        before = time.perf_counter()
        report = self.hub.stop(timeout=PATIENCE_SECONDS)
        elapsed = time.perf_counter() - before
        not_moved = len(report.restarted) + len(report.stopped) + len(report.failed)
        return {
            "us": elapsed * 1e6,
            "moved": len(report.moved),
            "not_moved": not_moved,
        }


def ids(count: int) -> Iterator[str]:
    """Return the ids of the first `count` children."""
    return (f"c{index}" for index in range(count))


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again, within bounds."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() >= until:
            raise TimeoutError(f"not true within {PATIENCE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Obey until the input ends."""
    node = Node()
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(node, order["op"])(order)
        except Exception as error:  # noqa: BLE001 (told to the bench, whatever it is)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
