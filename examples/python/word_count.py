"""Count the words of a body of text in 64 children, on nodes that come and go.

Several Python processes form a cluster. This one, the feeder, is a member without
kinds: it reads the text and calls the children in batches. Meanwhile a node joins, a
node leaves, every node is restarted in turn, and one is killed with SIGKILL. Only the
last loses anything, and the hub names exactly the children whose counts are gone; the
feeder reads the text again for those.

It ends by comparing every count with that of a plain loop, and with status 0 only if
all are equal:

    python word_count.py [--input DIR]
"""

from __future__ import annotations

import argparse
import collections
import json
import queue
import re
import sys
import sysconfig
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import process_hub as ph
from word_count_cluster import Cluster, Display

CHILDREN = [f"words:{number:02}" for number in range(64)]
WORDS_PER_BATCH = 3_000
WORDS_PER_PAGE = 5_000
SENDERS = 8
MIGRATION = ph.HotSwap(handover=True)  # the same on every node
WORD = re.compile(r"[^\W\d_]+")


class Words(ph.Child):
    """Counts its share of the words; the batches come numbered, each maybe twice."""

    def start(self, ctx: ph.Context, args: Any) -> None:
        """Begin with nothing; a hand-over replaces the state."""
        self.state: dict[str, Any] = {"last": 0, "counts": {}}

    def handle(self, message: dict[str, Any]) -> Any:
        """Count a batch, or give a page of the counts."""
        if "words" in message:
            return self.count(message["number"], message["words"])
        items = sorted(self.state["counts"].items())
        first = message["page"] * WORDS_PER_PAGE
        return [[word, n] for word, n in items[first : first + WORDS_PER_PAGE]]

    def count(self, number: int, words: list[str]) -> int:
        """Count the batch after the last one, and no other; return the last one."""
        if number == self.state["last"] + 1:
            counts = self.state["counts"]
            for word, n in collections.Counter(words).items():
                counts[word] = counts.get(word, 0) + n
            self.state["last"] = number
        return int(self.state["last"])


class Text:
    """The files to count. Reading them again gives the same words in the same order."""

    def __init__(self, folder: Path, *, only_python: bool) -> None:
        self.files: list[Path] = []
        self.bytes = 0
        for path in sorted(folder.rglob("*.py" if only_python else "*")):
            try:
                with path.open("rb") as file:
                    if b"\0" in file.read(1024):
                        continue
                self.bytes += path.stat().st_size
            except OSError:
                continue
            self.files.append(path)

    def read(self) -> Iterator[tuple[list[str], float]]:
        """Yield the words of each file, and how much of the text was read."""
        done = 0
        for path in self.files:
            text = path.read_bytes()
            done += len(text)
            words = WORD.findall(text.decode(errors="replace").lower())
            yield words, done / self.bytes

    def batches(self) -> Iterator[tuple[str, int, list[str], float]]:
        """Yield child, number, words and progress of each batch."""
        home: dict[str, int] = {}
        filling: list[list[str]] = [[] for _ in CHILDREN]
        numbers = [0] * len(CHILDREN)
        for words, progress in self.read():
            for word in words:
                index = home.get(word)
                if index is None:
                    index = zlib.crc32(word.encode()) % len(CHILDREN)
                    home[word] = index
                filling[index].append(word)
            for index, batch in enumerate(filling):
                while len(batch) >= WORDS_PER_BATCH:
                    numbers[index] += 1
                    full, batch = batch[:WORDS_PER_BATCH], batch[WORDS_PER_BATCH:]
                    filling[index] = batch
                    yield CHILDREN[index], numbers[index], full, progress
        for index, batch in enumerate(filling):
            if batch:
                yield CHILDREN[index], numbers[index] + 1, batch, 1.0

    def count(self) -> collections.Counter[str]:
        """Count in one process, plainly."""
        counts: collections.Counter[str] = collections.Counter()
        for words, _ in self.read():
            counts.update(words)
        return counts


class Feeder:
    """Sends batches: those of one child in order, several children at a time."""

    def __init__(self, hub: ph.Hub, display: Display) -> None:
        self.hub = hub
        self.display = display
        self.behind: set[str] = set()
        """Children that miss earlier batches: they must be fed again from the text."""
        self.failure: BaseException | None = None
        self._queues: list[queue.Queue[tuple[str, int, list[str]] | None]] = [
            queue.Queue(4) for _ in range(SENDERS)
        ]
        self._threads = [
            threading.Thread(target=self._send, args=(batches,), daemon=True)
            for batches in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def feed(self, child: str, number: int, words: list[str]) -> None:
        """Queue a batch; waits while the queue is full."""
        if self.failure is not None:
            raise self.failure
        self._queues[CHILDREN.index(child) % SENDERS].put((child, number, words))

    def flush(self) -> None:
        """Wait until everything queued is counted."""
        for batches in self._queues:
            batches.join()
        if self.failure is not None:
            raise self.failure

    def _send(self, batches: queue.Queue[tuple[str, int, list[str]] | None]) -> None:
        while (batch := batches.get()) is not None:
            child, number, words = batch
            try:
                if child not in self.behind and self.failure is None:
                    message = {"number": number, "words": words}
                    if call(self.hub, child, message) < number:
                        self.behind.add(child)
                    else:
                        self.display.words += len(words)
            except BaseException as error:  # noqa: BLE001 (raised again by the feeder)
                self.failure = error
            finally:
                batches.task_done()


def call(hub: ph.Hub, child: str, message: dict[str, Any]) -> Any:
    """Call until there is an answer: batches are numbered, so twice does no harm."""
    until = time.monotonic() + 60
    while True:
        try:
            return hub.call(child, message, timeout=10)
        except (
            ph.HubTimeoutError,
            ph.NotActiveError,
            ph.UnreachableError,
            ph.OverloadedError,
        ):
            if time.monotonic() > until:
                raise


def feed_all(text: Text, feeder: Feeder, cluster: Cluster) -> None:
    """Feed the text while the cluster changes; then again what was lost."""
    for child, number, words, progress in text.batches():
        feeder.feed(child, number, words)
        feeder.display.progress = progress
        cluster.reached(progress)
    feeder.flush()
    cluster.finish(feeder.behind)
    again = cluster.lost
    feeder.behind = set()
    feeder.display.doing = f"reading again for {len(again)} children"
    for child, number, words, progress in text.batches():
        if child in again:
            feeder.feed(child, number, words)
        feeder.display.progress = progress
    feeder.flush()
    for child in sorted(again):
        feeder.hub.acknowledge_loss(child)


def collect(hub: ph.Hub) -> dict[str, int]:
    """Ask every child for its counts, page by page."""
    counts: dict[str, int] = {}
    for child in CHILDREN:
        page = 0
        while items := call(hub, child, {"page": page}):
            counts.update(items)
            page += 1
    return counts


def differences(ours: dict[str, int], plain: dict[str, int]) -> Iterable[str]:
    """Name every word whose counts differ."""
    for word in sorted(ours.keys() | plain.keys()):
        if ours.get(word, 0) != plain.get(word, 0):
            yield f"{word}: {ours.get(word, 0)} instead of {plain.get(word, 0)}"


def run(text: Text) -> bool:
    """Count in a cluster and compare; says whether everything is as it should be."""
    begin = time.monotonic()
    with ph.Hub("word-count", name="feeder", migration=MIGRATION) as hub:
        display = Display(hub, len(CHILDREN))
        cluster = Cluster(hub, display, Path(__file__))
        try:
            cluster.start(["n1", "n2", "n3"])
            specs = [ph.ChildSpec(child, "words") for child in CHILDREN]
            hub.start_children(specs, timeout=30).result().raise_for_errors()
            display.start()
            feeder = Feeder(hub, display)
            feed_all(text, feeder, cluster)
            display.doing = "collecting the counts"
            ours = collect(hub)
            display.stop()
        finally:
            display.stop()
            cluster.stop()
    seconds = time.monotonic() - begin
    begin = time.monotonic()
    plain = text.count()
    plain_seconds = time.monotonic() - begin
    wrong = list(differences(ours, plain))
    total = sum(plain.values())
    print(f"\ncluster: {total:,} words, {len(plain):,} different, {seconds:.1f} s")
    print(f"plain loop: {plain_seconds:.1f} s")
    for line in [*cluster.problems, *wrong[:10]]:
        print(f"WRONG: {line}")
    if wrong:
        print(f"{len(wrong):,} of {len(plain):,} counts differ")
    else:
        print(f"all {len(plain):,} counts are equal")
    return not wrong and not cluster.problems


def main() -> int:
    """Run the feeder, or with ``--node`` one node of its cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, help="a folder of text files")
    parser.add_argument("--node", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        return run_node(*options.node)
    only_python = options.input is None
    folder = options.input or Path(sysconfig.get_path("stdlib"))
    text = Text(folder, only_python=only_python)
    if not text.bytes:
        print(f"there is no text in {folder}", file=sys.stderr)
        return 2
    print(f"{len(text.files):,} files, {text.bytes / 1e6:.1f} MB, in {folder}")
    return 0 if run(text) else 1


def run_node(name: str, seed: str) -> int:
    """Be a node until standard input says so, or closes."""
    hub = ph.Hub(
        "word-count",
        kinds={"words": Words},
        name=name,
        seeds=[seed],
        migration=MIGRATION,
    ).start()
    print(json.dumps({"address": hub.address}), flush=True)
    sys.stdin.readline()
    report = hub.stop(timeout=60)
    left = {
        "moved": report.moved,
        "restarted": [it.id for it in report.restarted],
        "stopped": report.stopped,
        "failed": [it.id for it in report.failed],
    }
    print(json.dumps(left), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
