"""One hub, used from blocking code."""

import concurrent.futures
import logging
import pickle
import threading
import warnings
from datetime import timedelta

import process_hub as ph
import pytest
from conftest import KINDS, Counter, Echo, eventually


def test_readme_example_then_the_reply():
    class Cart(ph.Child):
        def start(self, ctx, args):
            self.state = list(args or [])

        def handle(self, message):
            self.state.append(message)
            return len(self.state)

    with ph.Hub("orders", kinds={"cart": Cart}) as hub:
        started = hub.start_child("cart:42", "cart", args=["sku1"]).result(timeout=5)
        assert started.id == "cart:42"
        assert [it.node for it in started.instances] == [hub.node_name]
        assert hub.call("cart:42", "sku2", timeout=1.0) == 2
        result = hub.start_children([ph.ChildSpec("cart:43", "cart")]).result()
        assert result.raise_for_errors().status == "ok"


def test_started_then_in_the_registry(hub):
    spec = ph.ChildSpec(
        "c1",
        "counter",
        {"deep": [1]},
        metadata={"tag": "vip", "n": 1},
        restart="transient",
        shutdown=2,
    )
    hub.start_child(spec).result(5)
    row = hub.child_lookup("c1")
    assert (row.id, row.kind, row.metadata) == (
        "c1",
        "counter",
        {"tag": "vip", "n": 1},
    )
    assert row.spec.args == {"deep": [1]}
    assert (row.spec.restart, row.spec.shutdown) == ("transient", 2)
    assert row.state_lost is None
    (instance,) = row.instances
    assert (instance.node, instance.mode) == (hub.node_name, ph.Mode.ACTIVE)
    assert instance.epoch > 0
    assert list(hub.process_registry()) == ["c1"]
    assert hub.tag_query("vip") == [row]
    assert hub.metadata_query("n") == [row]
    assert hub.tag_query("other") == []
    assert hub.which_children() == {hub.node_name: ["c1"]}
    assert hub.which_children("global") == {hub.node_name: ["c1"]}
    assert hub.child_lookup("nobody") is None
    assert row.to_json()["spec"]["kind"] == "counter"


def test_stopped_then_gone(hub):
    hub.start_child("c1", "counter").result(5)
    stopped = hub.stop_child("c1").result(5)
    assert (stopped.id, stopped.nodes) == ("c1", [hub.node_name])
    assert hub.child_lookup("c1") is None
    with pytest.raises(ph.NotFoundError):
        hub.call("c1", 1)
    with pytest.raises(LookupError):
        hub.stop_child("c1").result(5)


def test_many_children_in_one_call_then_all_can_be_called(hub):
    specs = [ph.ChildSpec(f"c{n}", "counter", n) for n in range(500)]
    result = hub.start_children(specs).result(10)
    assert len(result.raise_for_errors().started) == 500
    assert [hub.call(f"c{n}", "get") for n in range(500)] == list(range(500))
    result = hub.stop_children([f"c{n}" for n in range(500)]).result(10)
    assert (result.status, len(result.stopped)) == ("ok", 500)
    assert hub.process_registry() == {}


def test_one_known_id_then_the_others_start(hub):
    hub.start_child("c1", "counter").result(5)
    specs = [ph.ChildSpec("c1", "counter"), ph.ChildSpec("c2", "counter")]
    result = hub.start_children(specs).result(5)
    assert result.status == "error"
    assert [it.id for it in result.started] == ["c2"]
    (error,) = result.errors
    assert (error.id, error.kind) == ("c1", "already_started")
    with pytest.raises(ph.AlreadyStartedError):
        result.raise_for_errors()


def test_if_exists_return_then_the_running_child(hub):
    first = hub.start_child("c1", "counter").result(5)
    again = hub.start_child("c1", "counter", if_exists="return").result(5)
    assert again == first
    with pytest.raises(ph.AlreadyStartedError):
        hub.start_child("c1", "counter").result(5)


def test_guided_then_children_go_where_the_mapping_says(hub_id):
    guided = ph.Guided(fallback="wait")
    options = {"kinds": KINDS, "profile": "fast", "distribution": guided}
    specs = [ph.ChildSpec("c1", "counter")]
    with ph.Hub(hub_id, name="here", **options) as hub:
        with pytest.raises(ph.MissingChildMappingError):
            hub.start_children(specs).result(5)
        with pytest.raises(ph.ChildMappingMismatchError):
            hub.start_children(specs, child_mapping={"c2": ["here"]}).result(5)
        with pytest.raises(ph.ChildReplicationMismatchError):
            hub.start_children(specs, child_mapping={"c1": ["here", "b"]}).result(5)
        for wrong in ("here", ["here"], {"c1": "here"}, {"c1": [7]}):
            with pytest.raises(ph.InvalidChildMappingError):
                hub.start_children(specs, child_mapping=wrong).result(5)
        elsewhere = hub.start_children(specs, child_mapping={"c1": ["gone"]}).result(9)
        assert [error.kind for error in elsewhere.errors] == ["unreachable"]
        result = hub.start_children(specs, child_mapping={"c1": ("here",)}).result(5)
        assert result.raise_for_errors().started[0].instances[0].node == "here"
        assert list(hub.child_lookup("c1").spec.mapping) == ["here"]


def test_rollback_then_nothing_runs(hub):
    specs = [ph.ChildSpec("good", "echo"), ph.ChildSpec("bad", "awkward", "fail")]
    result = hub.start_children(specs, on_failure="rollback").result(5)
    assert (result.status, result.rollback) == ("error", True)
    assert [it.id for it in result.errors] == ["bad"]
    assert hub.process_registry() == {}


def test_metadata_of_the_request_then_fills_what_the_spec_leaves_out(hub):
    specs = [
        ph.ChildSpec("a", "echo", metadata={"tag": "own"}),
        {"id": "b", "kind": "echo"},
    ]
    hub.start_children(specs, metadata={"tag": "given"}).result(5).raise_for_errors()
    assert hub.child_lookup("a").metadata["tag"] == "own"
    assert hub.child_lookup("b").metadata["tag"] == "given"


@pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": None}], b"\x00\xff", {}])
def test_message_then_returned_as_it_was(hub, value):
    hub.start_child("e", "echo").result(5)
    assert hub.call("e", value) == value


def test_context_then_the_facts_of_the_instance(hub):
    seen = {}

    class Curious(ph.Child):
        def start(self, ctx, args):
            seen.update(
                ctx=ctx,
                id=ctx.child_id,
                kind=ctx.kind,
                hub=ctx.hub_id,
                node=ctx.node,
                mode=ctx.mode,
                metadata=ctx.metadata,
                reason=ctx.start_reason,
                cancelled=ctx.cancelled,
            )

    hub.register("curious", Curious)
    started = hub.start_child("c", "curious", metadata={"k": 1}).result(5)
    ctx = seen.pop("ctx")
    assert ctx.epoch == started.instances[0].epoch
    assert ctx.hub is hub
    assert seen == {
        "id": "c",
        "kind": "curious",
        "hub": hub.hub_id,
        "node": hub.node_name,
        "mode": ph.Mode.ACTIVE,
        "metadata": {"k": 1},
        "reason": ph.StartReason.INITIAL,
        "cancelled": False,
    }
    with pytest.raises(TypeError):
        pickle.dumps(ctx)


def test_children_call_each_other_then_their_slots_are_free(hub_id):
    class Link(ph.Child):
        stateless = True

        def start(self, ctx, args):
            self.ctx, self.next = ctx, args

        def handle(self, message):
            if self.next is None:
                return message
            return self.ctx.hub.call(self.next, message + 1)

    with ph.Hub(hub_id, kinds={"link": Link}, host_threads=1) as hub:
        specs = [ph.ChildSpec(f"l{n}", "link", f"l{n + 1}") for n in range(6)]
        specs.append(ph.ChildSpec("l6", "link"))
        hub.start_children(specs).result(5).raise_for_errors()
        assert hub.call("l0", 0) == 6


def test_chain_that_comes_back_then_would_deadlock(hub):
    hub.start_child("a", "awkward").result(5)
    hub.start_child("b", "awkward").result(5)
    with pytest.raises(ph.ChildFailedError, match="WouldDeadlockError"):
        hub.call("a", ["call", "a", ["echo"]])
    with pytest.raises(ph.ChildFailedError, match="WouldDeadlockError"):
        hub.call("a", ["call", "b", ["call", "a", ["echo"]]])
    assert hub.call("a", ["call", "b", ["fine"]]) == "fine"


def test_future_waited_for_inside_a_child_then_answered(hub):
    hub.start_child("a", "awkward").result(5)
    assert hub.call("a", ["result", "started-inside"]) == "started-inside"
    assert hub.child_lookup("started-inside") is not None


def test_blocking_callbacks_then_other_children_run_meanwhile(hub_id):
    entered, release = threading.Semaphore(0), threading.Event()

    class Blocking(ph.Child):
        stateless = True

        def handle(self, message):
            entered.release()
            return release.wait(20)

    with ph.Hub(hub_id, kinds={"blocking": Blocking, "echo": Echo}) as hub:
        for n in range(4):
            hub.start_child(f"b{n}", "blocking").result(5)
        hub.start_child("e", "echo").result(5)
        with concurrent.futures.ThreadPoolExecutor(4) as callers:
            replies = [callers.submit(hub.call, f"b{n}") for n in range(4)]
            for _ in range(4):
                assert entered.acquire(timeout=5)
            assert hub.call("e", "still here", timeout=2) == "still here"
            release.set()
            assert [reply.result(5) for reply in replies] == [True] * 4


def test_body_then_runs_beside_messages_and_is_cancelled_at_the_stop(hub):
    running, ended = threading.Event(), threading.Event()

    class Worker(ph.Child):
        stateless = True

        def run(self, ctx):
            running.set()
            assert ctx.wait_cancelled(20)
            ended.set()

        def handle(self, message):
            return message

    hub.register("worker", Worker)
    hub.start_child("w", "worker").result(5)
    assert running.wait(5)
    assert hub.call("w", "hello") == "hello"
    hub.stop_child("w").result(5)
    assert ended.wait(5)


def test_body_raises_then_the_child_is_restarted(hub):
    starts = threading.Semaphore(0)

    class Crashing(ph.Child):
        stateless = True

        def start(self, ctx, args):
            self.reason = ctx.start_reason
            starts.release()

        def run(self, ctx):
            if self.reason is ph.StartReason.INITIAL:
                raise RuntimeError("crash")
            ctx.wait_cancelled(20)

    hub.register("crashing", Crashing)
    hub.start_child("c", "crashing").result(5)
    assert starts.acquire(timeout=5)
    assert starts.acquire(timeout=5)


def test_exit_and_stop_self_then_what_the_policy_says(hub):
    class Leaving(ph.Child):
        stateless = True

        def start(self, ctx, args):
            self.ctx = ctx

        def handle(self, message):
            if message == "exit":
                self.ctx.exit()
            else:
                self.ctx.stop_self()

    hub.register("leaving", Leaving)
    for message in ("exit", "stop_self"):
        hub.start_child("l", "leaving", restart="transient").result(5)
        hub.send("l", message)
        eventually(lambda: hub.child_lookup("l") is None, "the child is gone")


def test_stop_callback_then_told_the_reason(hub):
    reasons = []

    class Told(ph.Child):
        def stop(self, reason):
            reasons.append(reason)

    hub.register("told", Told)
    hub.start_child("t", "told").result(5)
    hub.stop_child("t").result(5)
    assert reasons == [ph.StopReason.STOPPED]


def test_send_then_handled(hub):
    hub.start_child("c", "counter").result(5)
    for _ in range(10):
        hub.send("c", 1)
    eventually(lambda: hub.call("c", "get") == 10, "ten messages were handled")


def test_codec_of_a_kind_then_arguments_messages_and_replies_by_it(hub):
    def encode(value):
        return repr(value).encode()

    codec = ph.Codec(
        content_type="application/x-repr",
        encode=encode,
        decode=lambda data: eval(data),
    )

    class Tuples(ph.Child):
        def start(self, ctx, args):
            self.state = args

        def handle(self, message):
            return (self.state, message)

    hub.register("tuples", ph.Kind(Tuples, codec=codec))
    hub.start_child("t", "tuples", args=(1, {2})).result(5)
    assert hub.call("t", (3,)) == ((1, {2}), (3,))


def test_factory_of_a_kind_then_makes_the_children(hub):
    class Needs(ph.Child):
        stateless = True

        def __init__(self, database):
            self.database = database

        def handle(self, message):
            return self.database

    hub.register("needs", ph.Kind(Needs, factory=lambda: Needs("the database")))
    hub.start_child("n", "needs").result(5)
    assert hub.call("n") == "the database"


def test_handover_callbacks_that_are_never_called_then_one_warning(hub_id, caplog):
    class Handing(ph.Child):
        def prepare_handover_state(self):
            return 1

    with caplog.at_level(logging.WARNING, "process_hub"):
        ph.Hub(hub_id, kinds={"a": Handing, "b": Handing})
        ph.Hub(hub_id, kinds={"a": Handing}, migration=ph.ColdSwap(handover=True))
    (record,) = caplog.records
    assert "handover=True" in record.getMessage()


def test_where_plan_sync_and_stats_then_their_documents(hub):
    hub.start_child("c", "counter").result(5)
    where = hub.where("c")
    assert (where["id"], where["owner"]) == ("c", hub.node_name)
    plan = hub.plan({"join": [{"name": "other", "kinds": ["counter"]}]})
    assert all(move["id"] == "c" for move in plan["moves"])
    hub.sync()
    hub.acknowledge_loss("c")
    assert "# TYPE" in hub.metrics_text()
    assert hub.debug_stats()["children"] == 1
    assert hub.debug_stats()["instances"] == 1
    assert not hub.is_locked()
    assert not hub.is_partitioned()


def test_drain_of_the_only_node_then_the_children_stop(hub):
    hub.start_child("c", "counter").result(5)
    report = hub.drain(timeout=timedelta(seconds=5))
    assert "c" in [*report.stopped, *[it.id for it in report.failed]]


def test_closed_then_every_operation_says_so(hub_id):
    hub = ph.Hub(hub_id, kinds=KINDS)
    with pytest.raises(ph.NotStartedError):
        hub.call("c", 1)
    hub.start()
    assert hub.is_alive()
    hub.stop()
    report = hub.stop()
    assert report.failed == []
    assert not hub.is_alive()
    for operation in (
        lambda: hub.call("c", 1),
        lambda: hub.child_lookup("c"),
        lambda: hub.start_child("c", "counter"),
        hub.nodes,
        hub.process_registry,
    ):
        with pytest.raises(ph.ClosedError):
            operation()
    with pytest.raises(ph.InvalidArgumentError):
        hub.start()


def test_stop_with_a_call_in_flight_then_the_caller_is_told(hub_id):
    entered = threading.Event()

    class Slow(ph.Child):
        def handle(self, message):
            entered.set()
            threading.Event().wait(1)
            return "done"

    hub = ph.Hub(hub_id, kinds={"slow": Slow}).start()
    hub.start_child("s", "slow").result(5)
    with concurrent.futures.ThreadPoolExecutor(1) as caller:
        reply = caller.submit(hub.call, "s")
        assert entered.wait(5)
        hub.stop()
        error = reply.exception(5)
    assert error is None or isinstance(error, ph.HubError)


def test_hub_forgotten_then_resource_warning_and_no_hang(hub_id):
    hub = ph.Hub(hub_id, kinds=KINDS).start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del hub
    assert [it.category for it in caught] == [ResourceWarning]


def test_hub_pickled_then_type_error(hub):
    with pytest.raises(TypeError):
        pickle.dumps(hub)


def test_two_hubs_on_one_node_then_any_order_of_stopping(hub_id):
    with ph.Node(name="shared") as node:
        a = ph.Hub(f"{hub_id}-a", kinds={"counter": Counter}, node=node).start()
        b = ph.Hub(f"{hub_id}-b", kinds={"counter": Counter}, node=node).start()
        with pytest.raises(ph.HubExistsError):
            ph.Hub(f"{hub_id}-a", kinds={"counter": Counter}, node=node).start()
        a.start_child("c", "counter", args=1).result(5)
        b.start_child("c", "counter", args=2).result(5)
        assert (a.call("c", "get"), b.call("c", "get")) == (1, 2)
        assert a.address == b.address == node.address
        a.stop()
        assert b.call("c", "get") == 2
        b.stop()


def test_many_threads_then_every_addition_counts_once(hub):
    hub.start_child("c", "counter").result(5)
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: hub.call("c", 1), range(400)))
    assert hub.call("c", "get") == 400
