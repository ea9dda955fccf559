"""Several nodes: children are shared out, move with their state, and survive."""

import concurrent.futures
import ctypes
import logging
import subprocess
import sys
import threading

import process_hub as ph
import pytest
from conftest import KINDS, Counter, eventually


def start_counters(hub, count):
    specs = [ph.ChildSpec(f"c{n}", "counter", n) for n in range(count)]
    hub.start_children(specs, timeout=10).result(15).raise_for_errors()


def places(hub):
    rows = hub.process_registry().values()
    return {row.id: row.instances[0].node for row in rows if row.instances}


def settled(hub, count, nodes):
    def is_settled():
        placed = places(hub)
        return (
            len(placed) == count
            and set(placed.values()) <= set(nodes)
            and not hub.is_locked()
            and placed
        )

    return eventually(is_settled, f"{count} children on {nodes}", 15)


def test_two_nodes_then_children_on_both_and_callable_from_both(cluster):
    a, b = cluster("a"), cluster("b")
    start_counters(a, 40)
    assert set(places(a).values()) == {"a", "b"}
    for hub in (a, b):
        assert [hub.call(f"c{n}", "get") for n in range(40)] == list(range(40))
    assert set(b.which_children("global")) == {"a", "b"}


def test_load_balanced_then_each_node_is_given_its_share(cluster):
    balanced = ph.LoadBalanced(push_interval=60, nodeup_redistribution=True)
    a = cluster("a", distribution=balanced)
    b = cluster("b", distribution=balanced, weight=3.0)
    start_counters(a, 40)
    on_a = list(places(a).values()).count("a")
    assert 8 <= on_a <= 12, "a quarter, give or take less than two"
    cluster("c", distribution=balanced)
    eventually(lambda: list(places(b).values()).count("c") == 8, "a fifth goes to c")
    settled(b, 40, ["a", "b", "c"])
    assert [a.call(f"c{n}", "get") for n in range(40)] == list(range(40))
    late = a.start_children(
        [ph.ChildSpec("late", "counter")], child_mapping={"late": ["a"]}
    )
    with pytest.raises(ph.InvalidArgumentError):
        late.result(5)


def test_node_joins_then_children_move_with_their_state(cluster):
    a = cluster("a")
    start_counters(a, 40)
    for n in range(40):
        a.call(f"c{n}", 100)
    b = cluster("b")
    eventually(lambda: "b" in places(b).values(), "children move to b")
    settled(a, 40, ["a", "b"])
    for hub in (a, b):
        values = [hub.call(f"c{n}", "get") for n in range(40)]
        assert values == [100 + n for n in range(40)]


def test_node_leaves_then_children_move_with_their_state_and_the_report_says_so(
    cluster,
):
    a, b = cluster("a"), cluster("b")
    start_counters(a, 40)
    on_b = {id for id, node in places(a).items() if node == "b"}
    for n in range(40):
        a.call(f"c{n}", 100)
    report = b.stop(timeout=10)
    assert set(report.moved) == on_b
    assert (report.restarted, report.stopped, report.failed) == ([], [], [])
    assert [a.call(f"c{n}", "get") for n in range(40)] == [100 + n for n in range(40)]
    assert all(row.state_lost is None for row in a.process_registry().values())


def test_drain_then_owns_nothing_and_stays_a_member(cluster):
    a, b = cluster("a"), cluster("b")
    start_counters(a, 20)
    report = b.drain(timeout=10)
    assert report.failed == []
    # What b has given away a hears from b: a moment later.
    settled(a, 20, ["a"])
    assert b.nodes() == ["a"]
    assert b.call("c3", "get") == 3


def test_kind_only_one_node_offers_then_all_its_children_there(cluster):
    a = cluster("a", kinds={})
    b = cluster("b")
    start_counters(a, 10)
    assert set(places(a).values()) == {"b"}
    assert a.call("c1", 1) == 2
    assert b.which_children() == {"b": [f"c{n}" for n in range(10)]}


def test_additions_while_a_node_joins_and_leaves_then_none_is_lost(cluster):
    a = cluster("a")
    start_counters(a, 16)
    stop, acknowledged = threading.Event(), [0] * 4

    def add(caller):
        n = caller
        while not stop.is_set():
            a.call(f"c{n % 16}", 1, timeout=10)
            acknowledged[caller] += 1
            n += 4

    with concurrent.futures.ThreadPoolExecutor(4) as callers:
        try:
            adding = [callers.submit(add, caller) for caller in range(4)]
            b = cluster("b")
            settled(a, 16, ["a", "b"])
            b.stop(timeout=10)
        finally:
            stop.set()
        for added in adding:
            added.result(15)
    total = sum(a.call(f"c{n}", "get") for n in range(16))
    assert total == sum(acknowledged) + sum(range(16))


def test_hot_swap_without_handover_then_started_fresh(cluster):
    a = cluster("a", migration=ph.HotSwap(retention=0.1))
    start_counters(a, 20)
    for n in range(20):
        a.call(f"c{n}", 100)
    cluster("b", migration=ph.HotSwap(retention=0.1))
    eventually(lambda: "b" in places(a).values(), "children move to b")
    settled(a, 20, ["a", "b"])
    placed = places(a)
    for n in range(20):
        kept = placed[f"c{n}"] == "a"
        assert a.call(f"c{n}", "get") == (100 + n if kept else n)


def test_bytes_as_state_then_handed_over(cluster):
    class Blob(ph.Child):
        def start(self, ctx, args):
            self.state = bytes(args or b"")

        def handle(self, message):
            self.state += message
            return len(self.state)

    a = cluster("a", kinds={"blob": Blob})
    for n in range(8):
        a.start_child(f"b{n}", "blob", args=b"\x00").result(5)
        assert a.call(f"b{n}", b"x" * 70_000) == 70_001
    cluster("b", kinds={"blob": Blob})
    settled(a, 8, ["a", "b"])
    assert [a.call(f"b{n}", b"") for n in range(8)] == [70_001] * 8


def test_handover_callbacks_then_called_on_both_ends(cluster):
    told = []

    class Telling(ph.Child):
        def start(self, ctx, args):
            self.ctx = ctx

        def handover_start(self, target):
            told.append(("handover_start", target.node))

        def prepare_handover_state(self):
            told.append(("prepare", self.ctx.node))
            return {"from": self.ctx.node}

        def alter_handover_state(self, state):
            told.append(("alter", self.ctx.node, state, self.ctx.start_reason))

        def stop(self, reason):
            told.append(("stop", self.ctx.node, reason))

        def handle(self, message):
            return self.ctx.node

    a = cluster("a", kinds={"telling": Telling})
    for n in range(12):
        a.start_child(f"t{n}", "telling").result(5)
    cluster("b", kinds={"telling": Telling})
    settled(a, 12, ["a", "b"])
    moved = [id for id, node in places(a).items() if node == "b"]
    assert told.count(("prepare", "a")) == len(moved)
    altered = ("alter", "b", {"from": "a"}, ph.StartReason.MIGRATION)
    assert told.count(altered) == len(moved)
    assert told.count(("handover_start", "b")) == len(moved)
    eventually(
        lambda: told.count(("stop", "a", ph.StopReason.MIGRATED)) == len(moved),
        "the old instances were stopped",
    )


def test_hooks_of_membership_then_on_every_node(cluster):
    joined = threading.Event()
    a = cluster("a", hooks={"post_cluster_join": lambda payload: joined.set()})
    cluster("b")
    assert joined.wait(5)
    left = threading.Event()
    a.on("post_cluster_leave", lambda payload: left.set())
    b = cluster("c")
    b.stop()
    assert left.wait(5)


def test_node_name_taken_then_the_newcomer_is_told(cluster, hub_id):
    a = cluster("a")
    with pytest.raises(ph.NodeNameTakenError):
        ph.Hub(hub_id, kinds=KINDS, name="a", seeds=[a.address], profile="fast").start()
    assert a.is_alive()


def test_other_strategy_then_the_newcomer_is_told(cluster, hub_id):
    a = cluster("a")
    other = ph.Hub(
        hub_id,
        kinds=KINDS,
        name="b",
        seeds=[a.address],
        profile="fast",
        migration=ph.ColdSwap(handover=True),
    )

    def refusal():
        try:
            other.call("x", 1, timeout=0.5)
        except ph.StrategyMismatchError as error:
            return error
        except ph.NotFoundError:  # not met yet
            return None

    with pytest.raises(ph.StrategyMismatchError), other:
        assert "migration" in eventually(refusal, "refused").message


def test_two_clients_without_kinds_then_share_the_children(cluster):
    cluster("a", kinds={"counter": Counter})
    b, c = cluster("b", kinds={}), cluster("c", kinds={})
    b.start_child("x", "counter").result(5)
    assert c.call("x", 2) == 2
    assert b.call("x", 3) == 5


def test_logs_of_the_core_then_in_logging(cluster, caplog):
    caplog.set_level(logging.INFO, "process_hub")
    cluster("a")
    cluster("b")
    record = eventually(
        lambda: next((it for it in caplog.records if "node is up" in it.msg), None),
        "a record about the other node",
    )
    assert record.name == "process_hub.node"
    assert record.levelno == logging.INFO


SENDER = """
import sys, time
import process_hub as ph

hub_id, seed = sys.argv[1:]
options = {"profile": "fast", "migration": ph.HotSwap(handover=True)}
with ph.Hub(hub_id, name="asking", seeds=[seed], **options) as hub:
    while hub.child_lookup("c") is None:  # until the registry has come over
        time.sleep(0.01)
    for _ in sys.stdin:
        for _ in range(10):
            hub.send("c", 1)
            time.sleep(0.05)
"""


def test_one_call_waits_for_a_held_gil_then_host_unresponsive_tells_how_long(
    cluster, hub_id
):
    held = cluster("held")
    told = []
    held.on("host_unresponsive", told.append)
    held.start_child("c", "counter").result(5)
    # Another process, because here nobody can send while the GIL is held.
    command = [sys.executable, "-c", SENDER, hub_id, held.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as asking:
        eventually(lambda: held.nodes() == ["asking"], "the other process joins", 20)
        asking.stdin.write("send\n")
        asking.stdin.flush()
        # A PyDLL keeps the GIL while it calls: the messages come, and wait.
        ctypes.PyDLL(None).usleep(3_000_000)
        eventually(lambda: told, "the hook")
        assert held.nodes() == ["asking"]
    assert asking.returncode == 0
    assert told[0]["blocked_ms"] >= 1000
    assert held.call("c", "get") == 10
