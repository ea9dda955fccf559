"""Kinds and helpers that the tests share."""

import itertools
import threading
import time

import process_hub as ph
import pytest

_NUMBERS = itertools.count(1)


class Counter(ph.Child):
    """Adds up: ``n`` adds, ``"get"`` reads, ``"who"`` tells where it runs."""

    def start(self, ctx, args):
        self.ctx = ctx
        self.state = args or 0

    def handle(self, message):
        if message == "get":
            return self.state
        if message == "who":
            return [self.ctx.node, self.ctx.epoch, str(self.ctx.start_reason)]
        self.state += message
        return self.state


class Echo(ph.Child):
    """Returns what it is sent."""

    stateless = True

    def handle(self, message):
        return message


class Awkward(ph.Child):
    """Does what users' code does on a bad day."""

    stateless = True

    def start(self, ctx, args):
        self.ctx = ctx
        if args == "fail":
            raise RuntimeError("start says no")

    def handle(self, message):
        what, *rest = message
        if what == "raise":
            raise KeyError("on purpose")
        if what == "tuple":
            return {"items": [1, (2, 3)]}
        if what == "exit":
            raise SystemExit(3)
        if what == "block":
            return BLOCK.wait(20)
        if what == "call":
            return self.ctx.hub.call(rest[0], rest[1], timeout=3)
        if what == "result":
            return self.ctx.hub.start_child(rest[0], "echo").result(5).id
        if what == "stop_hub":
            return self.ctx.hub.stop()
        if what == "crash":
            self.ctx.exit("boom")
        return what


BLOCK = threading.Event()
KINDS = {"counter": Counter, "echo": Echo, "awkward": Awkward}


def eventually(predicate, what, timeout=10.0):
    """Wait until something that other threads bring about is true."""
    until = time.monotonic() + timeout
    pause = threading.Event()
    while not (result := predicate()):
        assert time.monotonic() < until, f"not within {timeout} s: {what}"
        pause.wait(0.005)
    return result


@pytest.fixture
def hub_id():
    return f"test-{next(_NUMBERS)}"


@pytest.fixture
def hub(hub_id):
    with ph.Hub(hub_id, kinds=KINDS, profile="fast") as hub:
        yield hub
        BLOCK.set()
    BLOCK.clear()


@pytest.fixture
def cluster(hub_id):
    """Start hubs that find each other; stop those that are left."""
    hubs = []

    def join(name, *, kinds=KINDS, **options):
        seeds = [hub.address for hub in hubs if hub.is_alive()]
        options.setdefault("migration", ph.HotSwap(handover=True))
        joined = ph.Hub(
            hub_id, kinds=kinds, name=name, seeds=seeds, profile="fast", **options
        ).start()
        hubs.append(joined)
        alive = [hub for hub in hubs if hub.is_alive()]
        for hub in alive:
            eventually(
                lambda hub=hub: len(hub.nodes(True)) == len(alive),
                f"{hub.node_name} sees {len(alive)} nodes",
            )
        return joined

    yield join
    for hub in hubs:
        if hub.is_alive():
            hub.stop(timeout=5)
