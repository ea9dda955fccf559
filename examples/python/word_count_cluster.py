"""The nodes of the word count: their processes, what happens to them, what is shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import process_hub as ph

SETTLE_SECONDS = 15


class Display:
    """A table that is drawn again and again; plain lines where there is no screen."""

    def __init__(self, hub: ph.Hub, children: int) -> None:
        self.words = 0
        self.progress = 0.0
        self.doing = "starting"
        self.moves = 0
        self._hub = hub
        self._children = children
        self._homes: dict[str, str] = {}
        self._is_screen = sys.stdout.isatty()
        self._drawn_lines = 0
        self._begin = time.monotonic()
        self._latest = (self._begin, 0)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._draw_until_stopped, daemon=True)
        hub.on("registry_pid_inserted", self._placed)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Draw once more, and end."""
        if not self._ended.is_set() and self._thread.is_alive():
            self._ended.set()
            self._thread.join()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._erase()
            print(f"{time.monotonic() - self._begin:6.1f} s  {line}", flush=True)

    def places(self) -> Counter[str]:
        """Count the children on each node, as the registry has it."""
        rows = self._hub.process_registry().values()
        return Counter(row.instances[0].node for row in rows if row.instances)

    def _placed(self, event: dict[str, Any]) -> None:
        child, node = event["child_id"], event["instances"][0]["node"]
        before = self._homes.get(child)
        self._homes[child] = node
        self.moves += before not in (None, node)

    def _draw_until_stopped(self) -> None:
        while not self._ended.wait(0.25 if self._is_screen else 2.0):
            self._draw()
        self._draw()

    def _draw(self) -> None:
        now, words = time.monotonic(), self.words
        then, words_then = self._latest
        self._latest = (now, words)
        rate = (words - words_then) / max(now - then, 0.001) / 1e6
        places = self.places()
        summary = (
            f"{now - self._begin:6.1f} s  {self.progress:4.0%}  "
            f"{words / 1e6:6.2f} M words  {rate:5.2f} M words/s  {self.moves:4} moves"
        )
        with self._lock:
            if self._is_screen:
                self._erase()
                width = shutil.get_terminal_size().columns - 1
                lines = [f"{summary}  {self.doing}"]
                lines += [
                    f"  {node:8} {places[node]:3} {'#' * places[node]}"
                    for node in sorted(self._hub.nodes(include_local=True))
                ]
                print("\n".join(line[:width] for line in lines), flush=True)
                self._drawn_lines = len(lines)
            else:
                nodes = "  ".join(f"{node} {places[node]}" for node in sorted(places))
                print(f"{summary}  [{nodes}]  {self.doing}", flush=True)

    def _erase(self) -> None:
        if self._drawn_lines:
            print(f"\x1b[{self._drawn_lines}A\x1b[J", end="")
            self._drawn_lines = 0


class Node:
    """A process with one node of the cluster."""

    def __init__(self, name: str, seed: str, program: Path) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(program), "--node", name, seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """Read the next line the process says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"node {self.name} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> dict[str, Any]:
        """Leave gracefully, and return what became of the children."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        report = self.answer()
        self.process.wait(30)
        return report


class Cluster:
    """What happens to the nodes while the text streams in, and what must be true."""

    def __init__(self, hub: ph.Hub, display: Display, program: Path) -> None:
        self.problems: list[str] = []
        self.lost: set[str] = set()
        """Children whose state is gone, as the hub named them."""
        self._hub = hub
        self._display = display
        self._program = program
        self._nodes: dict[str, Node] = {}
        self._expected_lost: set[str] = set()
        self._running: threading.Thread | None = None
        self._plan: list[tuple[float, str, Callable[[], str]]] = [
            (0.05, "n4 joins", lambda: self._join("n4")),
            (0.20, "n2 leaves", lambda: self._leave("n2")),
            (0.35, "n1 is restarted", lambda: self._restart("n1")),
            (0.45, "n3 is restarted", lambda: self._restart("n3")),
            (0.55, "n4 is restarted", lambda: self._restart("n4")),
            (0.70, "n3 is killed", lambda: self._kill("n3")),
        ]
        hub.on("state_lost", lambda event: self.lost.add(event["child_id"]))

    def start(self, names: list[str]) -> None:
        """Start the first nodes."""
        for name in names:
            self._nodes[name] = Node(name, self._hub.address, self._program)
        for name in names:
            self._nodes[name].answer()
        self._wait(lambda: set(self._hub.nodes()) == set(names), "the nodes meet")

    def reached(self, progress: float) -> None:
        """Let happen what is due; what comes next waits for it."""
        while self._plan and progress >= self._plan[0][0]:
            if self._running is not None:
                self._running.join()
            _, what, happen = self._plan.pop(0)
            self._running = threading.Thread(target=self._happen, args=(what, happen))
            self._running.start()

    def finish(self, behind: set[str]) -> None:
        """Wait for the last event, and check what was lost.

        Parameters
        ----------
        behind
            The children that answered as if they had lost something.
        """
        self.reached(1.0)
        if self._running is not None:
            self._running.join()
        lost, expected = self.lost, self._expected_lost
        try:
            self._wait(lambda: lost >= expected, "every loss is named")
        except TimeoutError as error:
            self.problems.append(str(error))
        if lost == expected:
            self._display.say(f"the hub named exactly the {len(lost)} lost children")
        else:
            unnamed, wrong = sorted(expected - lost), sorted(lost - expected)
            self.problems.append(f"lost but not named: {unnamed}; not lost: {wrong}")
        if not behind <= lost:
            self.problems.append(f"lost in silence: {sorted(behind - lost)}")

    def stop(self) -> None:
        """End the processes that are left."""
        for node in self._nodes.values():
            if node.process.stdin is not None:
                node.process.stdin.close()
        for node in self._nodes.values():
            try:
                node.process.wait(30)
            except subprocess.TimeoutExpired:
                node.process.kill()

    def _happen(self, what: str, happen: Callable[[], str]) -> None:
        self._display.doing = what
        begin = time.monotonic()
        try:
            result = happen()
        except Exception as error:  # noqa: BLE001 (a problem to report, whatever it is)
            self.problems.append(f"{what}: {error!r}")
            result = repr(error)
        seconds = time.monotonic() - begin
        self._display.say(f"{what}: {result} ({seconds:.2f} s)")
        self._display.doing = ""

    def _join(self, name: str) -> str:
        node = Node(name, self._hub.address, self._program)
        node.answer()
        self._nodes[name] = node
        self._wait(lambda: name in self._hub.nodes(), f"{name} is a member")
        self._wait(lambda: self._display.places()[name] > 0, f"{name} has children")
        self._settle()
        return f"{self._display.places()[name]} children moved there"

    def _leave(self, name: str) -> str:
        report = self._nodes.pop(name).leave()
        for fate in ("restarted", "stopped", "failed"):
            if report[fate]:
                self.problems.append(f"{name} left, {fate}: {report[fate]}")
        self._wait(lambda: name not in self._hub.nodes(), f"{name} is gone")
        self._settle()
        return f"{len(report['moved'])} children moved with their state"

    def _restart(self, name: str) -> str:
        return f"{self._leave(name)}; back: {self._join(name)}"

    def _kill(self, name: str) -> str:
        self._settle()
        rows = self._hub.process_registry().values()
        on_node = {row.id for row in rows if row.instances[0].node == name}
        self._expected_lost = on_node
        node = self._nodes.pop(name)
        node.process.kill()
        node.process.wait()
        self._wait(lambda: name not in self._hub.nodes(), f"{name} is declared down")
        self._settle()
        return f"{len(on_node)} children run elsewhere, without their counts"

    def _settle(self) -> None:
        def is_settled() -> bool:
            rows = self._hub.process_registry().values()
            return all(
                row.instances
                and row.instances[0].node in self._nodes
                and row.instances[0].node == self._hub.where(row.id)["owner"]
                for row in rows
            )

        self._wait(is_settled, "every child is where it belongs")

    @staticmethod
    def _wait(is_true: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while not is_true():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {SETTLE_SECONDS} s: {what}")
            time.sleep(0.02)
