"""Bad input gets its named error or is contained, and the hub lives."""

import socket
import threading

import process_hub as ph
import pytest
from conftest import BLOCK, KINDS, Counter, eventually

MIB = 1 << 20


@pytest.fixture(autouse=True)
def lives(hub):
    """After whatever a test does, the hub still starts and calls children."""
    yield
    hub.start_child("proof", "counter", args=1).result(5)
    assert hub.call("proof", 1) == 2


def test_spec_without_id_then_invalid_argument(hub):
    with pytest.raises(ph.InvalidArgumentError, match="`id`"):
        hub.start_child({"kind": "counter"}).result(5)
    with pytest.raises(ph.InvalidArgumentError, match="1 to 255 bytes"):
        hub.start_child("", "counter").result(5)
    with pytest.raises(ph.InvalidArgumentError, match="1 to 255 bytes"):
        hub.start_child("x" * 256, "counter").result(5)


def test_bad_specs_among_good_ones_then_only_they_are_refused(hub):
    specs = [
        ph.ChildSpec("good", "counter"),
        {"kind": "counter"},
        ph.ChildSpec("bad", "counter", (1, 2)),
        ph.ChildSpec("odd", "counter", restart="sometimes"),
        {"id": "keys", "kind": "counter", "colour": "red"},
        7,
    ]
    result = hub.start_children(specs).result(5)
    assert [it.id for it in result.started] == ["good"]
    assert [(it.id, it.kind) for it in result.errors] == [
        (None, "invalid_argument"),
        ("bad", "not_encodable"),
        ("odd", "invalid_argument"),
        ("keys", "invalid_argument"),
        (None, "invalid_argument"),
    ]
    assert "colour" in result.errors[3].message


def test_bad_spec_and_rollback_then_nothing_starts(hub):
    specs = [ph.ChildSpec("good", "counter"), ph.ChildSpec("", "counter")]
    result = hub.start_children(specs, on_failure="rollback").result(5)
    assert (result.status, result.rollback, result.started) == ("error", True, [])
    assert hub.child_lookup("good") is None


def test_no_children_then_no_children_error(hub):
    with pytest.raises(ph.NoChildrenError):
        hub.start_children([]).result(5)
    with pytest.raises(ph.NoChildrenError):
        hub.stop_children([]).result(5)


@pytest.mark.parametrize("specs", ["c1", ph.ChildSpec("a", "b"), {"id": "a"}])
def test_specs_that_are_no_list_then_invalid_argument(hub, specs):
    with pytest.raises(ph.InvalidArgumentError, match="must be a list"):
        hub.start_children(specs)


def test_unknown_kind_then_named_error_and_nothing_wanted(hub):
    with pytest.raises(ph.UnknownKindError) as caught:
        hub.start_child("c", "no_such_kind").result(5)
    assert caught.value.child_id == "c"
    assert hub.child_lookup("c") is None


def test_kind_that_is_no_child_then_invalid_argument(hub):
    for code in (int, lambda: None, "counter"):
        with pytest.raises(ph.InvalidArgumentError, match="subclass of Child"):
            hub.register("bad", code)


def test_start_raises_then_start_failed_and_nothing_wanted(hub):
    with pytest.raises(ph.StartFailedError, match="start says no"):
        hub.start_child("c", "awkward", args="fail").result(5)
    assert hub.child_lookup("c") is None
    hub.start_child("c", "awkward").result(5)


def test_handle_raises_then_child_failed_and_the_state_is_kept(hub):
    hub.start_child("c", "awkward").result(5)
    epoch = hub.child_lookup("c").instances[0].epoch
    with pytest.raises(ph.ChildFailedError) as caught:
        hub.call("c", ["raise"])
    error = caught.value
    assert (error.child_id, error.node) == ("c", hub.node_name)
    assert "KeyError: 'on purpose'" in error.message
    assert "in handle" in error.trace
    assert "in handle" in str(error.__cause__)
    assert hub.child_lookup("c").instances[0].epoch == epoch


def test_handle_raises_and_on_error_restart_then_a_fresh_instance(hub):
    class Fragile(ph.Child):
        def start(self, ctx, args):
            self.state = 0

        def handle(self, message):
            self.state += 1
            if message == "raise":
                raise RuntimeError("let it crash")
            return self.state

    hub.register("fragile", Fragile)
    hub.start_child("f", "fragile", on_error="restart").result(5)
    assert [hub.call("f", 1), hub.call("f", 1)] == [1, 2]
    with pytest.raises(ph.ChildFailedError):
        hub.call("f", "raise")
    assert hub.call("f", 1) == 1


def test_sys_exit_in_a_callback_then_child_failed(hub):
    hub.start_child("c", "awkward").result(5)
    with pytest.raises(ph.ChildFailedError, match="SystemExit: 3"):
        hub.call("c", ["exit"])


def test_reply_that_cannot_be_encoded_then_its_path(hub):
    hub.start_child("c", "awkward").result(5)
    with pytest.raises(ph.NotEncodableError, match=r"\$\.items\[1\]"):
        hub.call("c", ["tuple"])


def test_message_that_cannot_be_encoded_then_its_path(hub):
    hub.start_child("c", "echo").result(5)
    with pytest.raises(ph.NotEncodableError, match=r"\$\.a\[0\]") as caught:
        hub.call("c", {"a": [{1}]})
    assert caught.value.maybe_executed is False


def test_callback_blocks_past_the_callers_timeout_then_timeout(hub):
    hub.start_child("c", "awkward").result(5)
    with pytest.raises(ph.HubTimeoutError) as caught:
        hub.call("c", ["block"], timeout=0.2)
    assert caught.value.maybe_executed is True
    BLOCK.set()


def test_start_blocks_past_the_timeout_then_it_is_told(hub):
    release = threading.Event()

    class Stuck(ph.Child):
        def start(self, ctx, args):
            release.wait(10)

    hub.register("stuck", Stuck)
    with pytest.raises(TimeoutError):
        hub.start_child("s", "stuck", timeout=0.3).result(5)
    release.set()


def test_message_of_a_mebibyte_then_handled_and_one_byte_more_refused(hub):
    hub.start_child("e", "echo").result(5)
    assert len(hub.call("e", b"x" * MIB)) == MIB
    with pytest.raises(ph.PayloadTooLargeError, match=str(MIB)):
        hub.call("e", b"x" * (MIB + 1))


def test_call_of_nobody_then_not_found(hub):
    with pytest.raises(ph.NotFoundError) as caught:
        hub.call("nobody", 1)
    assert caught.value.child_id == "nobody"
    with pytest.raises(ph.InvalidArgumentError):
        hub.call("", 1)


def test_call_of_an_unknown_node_then_a_named_error(hub):
    hub.start_child("e", "echo").result(5)
    with pytest.raises(ph.HubError) as caught:
        hub.call("e", 1, node="no-such-node", timeout=1)
    assert caught.value.kind in ("unreachable", "not_active")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", None, True])
def test_timeout_that_is_none_then_invalid_argument(hub, timeout):
    with pytest.raises(ph.InvalidArgumentError, match="timeout"):
        hub.call("c", 1, timeout=timeout)


def test_bad_options_then_invalid_argument(hub):
    specs = [ph.ChildSpec("c", "counter")]
    with pytest.raises(ph.InvalidArgumentError, match="if_exists"):
        hub.start_children(specs, if_exists="maybe")
    with pytest.raises(ph.InvalidArgumentError, match="on_failure"):
        hub.start_children(specs, on_failure="shrug")
    with pytest.raises(ph.InvalidArgumentError, match="scope"):
        hub.which_children("galactic")
    with pytest.raises(ph.InvalidArgumentError, match="plan"):
        hub.plan({"explode": []})


def test_stop_inside_a_callback_then_would_deadlock(hub):
    hub.start_child("c", "awkward").result(5)
    with pytest.raises(ph.ChildFailedError, match="WouldDeadlockError"):
        hub.call("c", ["stop_hub"])
    assert hub.is_alive()


def test_instance_that_crashes_itself_then_restarted(hub):
    hub.start_child("c", "awkward").result(5)
    hub.send("c", ["crash"])
    eventually(lambda: not_crashed(hub), "the child is back")


def not_crashed(hub):
    try:
        return hub.call("c", ["alive"]) == "alive"
    except ph.ChildFailedError:
        return False


def test_garbage_on_the_port_then_ignored(hub):
    host, port = hub.address.rsplit(":", 1)
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64):
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            stranger.sendall(garbage)


@pytest.mark.timeout(180)
def test_state_of_64_mebibytes_then_moves_and_one_byte_more_is_contained(hub, hub_id):
    class Large(ph.Child):
        def start(self, ctx, args):
            self.state = b""

        def handle(self, message):
            if message:
                self.state = bytes(message)
            return len(self.state)

    def join(name, **options):
        return ph.Hub(
            f"{hub_id}-large",
            kinds={"large": Large},
            migration=ph.HotSwap(handover=True),
            name=name,
            **options,
        ).start()

    a = join("a")
    try:
        a.start_children(
            [ph.ChildSpec("fits", "large"), ph.ChildSpec("too-large", "large")]
        ).result(5).raise_for_errors()
        a.call("fits", 64 * MIB)
        a.call("too-large", 64 * MIB + 1)
        b = join("b", seeds=[a.address])
        eventually(lambda: b.child_lookup("too-large"), "b knows the children")
        a.stop(timeout=40)
        assert b.call("fits", 0, timeout=10) == 64 * MIB
        assert b.child_lookup("fits").state_lost is None
        assert b.call("too-large", 0, timeout=10) == 0
        assert b.child_lookup("too-large").state_lost is not None
        b.stop()
    finally:
        if a.is_alive():
            a.stop(timeout=5)


def test_two_hubs_with_one_id_on_one_node_then_hub_exists(hub, hub_id):
    with (
        ph.Node() as node,
        ph.Hub(f"{hub_id}-twice", node=node),
        pytest.raises(ph.HubExistsError),
    ):
        ph.Hub(f"{hub_id}-twice", node=node).start()


def test_node_and_its_options_together_then_refused(hub):
    with ph.Node() as node, pytest.raises(ph.InvalidArgumentError):
        ph.Hub("x", node=node, listen="127.0.0.1:0").start()


def test_children_that_are_not_even_classes_then_refused_at_the_start():
    with pytest.raises(ph.InvalidArgumentError):
        ph.Hub("x", kinds={"bad": Counter()})


def test_kinds_of_the_conftest_then_registered():
    assert set(KINDS) == {"counter", "echo", "awkward"}
