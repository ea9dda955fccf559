"""Weather stations in three languages: one cluster of C, Python and Node.js.

Sensors (children in C) report readings to the summary of their site (in Python), and
summaries tell the board (in Node.js). While readings come in, one process of each
language is replaced: its children move to the new one with their state. At the end the
board is compared with a plain computation: no reading may be lost, or counted twice.

    python run.py STATION BOARD

STATION is the program made of station.c, BOARD the path of board.mjs in a project that
has the npm package. Ends with status 0 if all is right.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import process_hub as ph

SITES = ("north", "south", "east")
SENSORS = 12
DEADLINE_SECONDS = 180
"""For everything together."""
WAIT_SECONDS = 30
"""For any one step."""


class Process:
    """One process of the cluster, whatever its language."""

    def __init__(self, command: list[str], name: str, *seeds: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [*command, name, *seeds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello = self._line()

    def leave(self) -> int:
        """End it gracefully; return how many children it gave away."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        report = self._line()
        status = self.process.wait(WAIT_SECONDS)
        if status != 0 or report["restarted"] or report["stopped"] or report["failed"]:
            raise RuntimeError(f"{self.name} ended with {status} and {report}")
        return len(report["moved"])

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def wait(what: str, is_true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    until = time.monotonic() + WAIT_SECONDS
    while not is_true():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {WAIT_SECONDS} s: {what}")
        time.sleep(0.02)


def site_of(number: int) -> str:
    """Return the site of a sensor."""
    return SITES[number % len(SITES)]


def sensor_of(number: int) -> str:
    """Return the child id of a sensor."""
    return f"sensor:{site_of(number)}:{number}"


def start_children(hub: ph.Hub) -> None:
    """Start the board, the summaries, and last the sensors, which begin at once."""
    specs = [ph.ChildSpec("board", "board")]
    specs += [ph.ChildSpec(f"summary:{site}", "summary") for site in SITES]
    hub.start_children(specs, timeout=WAIT_SECONDS).result().raise_for_errors()
    # One that ends by itself after its last reading is not started again.
    sensors = [
        ph.ChildSpec(sensor_of(number), "sensor", restart="transient")
        for number in range(SENSORS)
    ]
    hub.start_children(sensors, timeout=WAIT_SECONDS).result().raise_for_errors()


def readings(hub: ph.Hub) -> int:
    """Return how many readings the board knows of."""
    return sum(site["count"] for site in hub.call("board", {}, timeout=10.0).values())


def more_readings(hub: ph.Hub) -> None:
    """Wait until the board has heard of some more readings from every sensor."""
    goal = readings(hub) + 5 * SENSORS
    wait(f"{goal} readings", lambda: readings(hub) >= goal)


def expected(counts: dict[int, int]) -> dict[str, dict[str, int]]:
    """Compute what the board must show, from how many readings each sensor took."""
    board: dict[str, dict[str, int]] = {}
    for site in SITES:
        values = [
            200 + 10 * number + (n * 7919 + number * 104729) % 101 - 50
            for number, count in counts.items()
            if site_of(number) == site
            for n in range(count)
        ]
        board[site] = {
            "count": len(values),
            "min": min(values),
            "max": max(values),
            "sum": sum(values),
        }
    return board


def run(commands: dict[str, list[str]], processes: dict[str, Process]) -> str:
    """Run the cluster; return what was seen."""
    with ph.Hub(
        "weather", name="desk", migration=ph.HotSwap(handover=True), profile="fast"
    ) as hub:
        for language, command in commands.items():
            for number in (1, 2):
                name = f"{language}-{number}"
                processes[name] = Process(command, name, hub.address)
        wait("all meet", lambda: set(hub.nodes()) == set(processes))
        start_children(hub)
        more_readings(hub)
        moved = 0
        for language, command in commands.items():
            # The newcomer takes what is its part, and of the one that leaves the rest.
            name, old = f"{language}-3", f"{language}-1"
            processes[name] = Process(command, name, hub.address)
            wait(f"{name} joins", lambda name=name: name in hub.nodes())
            more_readings(hub)
            moved += processes.pop(old).leave()
            wait(f"{old} is gone", lambda old=old: old not in hub.nodes())
            print(f"{old} replaced after {readings(hub)} readings", flush=True)
            more_readings(hub)
        counts = {
            number: hub.call(sensor_of(number), None, timeout=10.0)
            for number in range(SENSORS)
        }
        wait(
            "the sensors end",
            lambda: all(hub.child_lookup(sensor_of(n)) is None for n in counts),
        )
        wanted = expected(counts)
        shown = [it.hello["http"] for it in processes.values() if "http" in it.hello]
        for address in shown:
            with urllib.request.urlopen(address, timeout=WAIT_SECONDS) as answer:
                board = json.load(answer)
            if board != wanted:
                raise AssertionError(f"{address} shows {board}, and not {wanted}")
        # What is left has nobody to be given to.
        left = ["board", *(f"summary:{site}" for site in SITES)]
        hub.stop_children(left).result().raise_for_errors()
        while processes:
            processes.popitem()[1].leave()
    if moved == 0:
        raise AssertionError("no child ever moved")
    total = sum(counts.values())
    return f"{total} readings of {SENSORS} sensors are right, {moved} children moved"


def main(station: str, board: str) -> None:
    """Run the cluster within the deadline."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"not done within {DEADLINE_SECONDS} s")

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(DEADLINE_SECONDS)
    summaries = str(Path(__file__).with_name("summaries.py"))
    commands = {
        "c": [station],
        "python": [sys.executable, summaries],
        "node": ["node", board],
    }
    processes: dict[str, Process] = {}
    try:
        print(run(commands, processes))
    finally:
        for process in processes.values():
            process.process.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
