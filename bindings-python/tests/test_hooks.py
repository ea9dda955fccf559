"""Hooks: observers and interceptors, their order and their ends."""

import threading

import process_hub as ph
import pytest


def test_hooks_then_told_in_order_of_priority(hub):
    seen, done = [], threading.Event()
    hub.on("post_children_start", lambda payload: seen.append("low"), priority=-1)
    hub.on("post_children_start", lambda payload: seen.append(payload), priority=5)
    hub.on("post_children_start", lambda payload: done.set(), priority=-2)
    hub.on("post_children_start", lambda payload: 1 / 0, priority=9)
    hub.start_child("c", "counter").result(5)
    assert done.wait(5)
    assert seen[1] == "low"
    assert "c" in str(seen[0]["children"])


def test_hook_taken_off_then_silent(hub):
    seen, done = [], threading.Event()
    handler = hub.on("post_children_start", seen.append)
    hub.on("post_children_start", lambda payload: done.set(), "other")
    assert hub.off("post_children_start", handler)
    assert not hub.off("post_children_start", handler)
    hub.start_child("c", "counter").result(5)
    assert done.wait(5)
    assert seen == []


def test_interceptor_then_the_spec_is_changed(hub):
    def alter(spec, nodes):
        assert nodes == [hub.node_name]
        return ph.ChildSpec(spec.id, spec.kind, 41, metadata={"altered": True})

    handler = hub.intercept("child_data_alter", alter)
    hub.start_child("c", "counter").result(5)
    assert hub.call("c", 1) == 42
    assert hub.child_lookup("c").metadata == {"altered": True}
    assert hub.off("child_data_alter", handler)
    hub.start_child("d", "counter").result(5)
    assert hub.call("d", 1) == 1


def test_child_data_alter_observed_then_told_of_the_spec_as_it_was_asked_for(hub):
    told, done = [], threading.Event()
    observer = hub.on("child_data_alter", told.append)
    hub.on("post_children_start", lambda payload: done.set())
    interceptor = hub.intercept(
        "child_data_alter", lambda spec, nodes: ph.ChildSpec(spec.id, spec.kind, 10)
    )
    hub.start_child("c", "counter", args=4).result(5)
    assert hub.call("c", 0) == 10
    assert done.wait(5)
    assert [(it["spec"]["args"], it["nodes"]) for it in told] == [(4, [hub.node_name])]
    assert hub.off("child_data_alter", observer)
    assert hub.off("child_data_alter", interceptor)
    hub.start_child("d", "counter", args=4).result(5)
    assert hub.call("d", 0) == 4
    assert len(told) == 1


def test_unknown_hook_then_refused_by_name(hub):
    with pytest.raises(ph.InvalidArgumentError, match="no_such_hook"):
        hub.on("no_such_hook", print)
    with pytest.raises(ph.InvalidArgumentError):
        hub.intercept("state_lost", print)


def test_handler_added_to_a_stopped_hub_then_closed(hub_id):
    hub = ph.Hub(hub_id).start()
    hub.stop()
    with pytest.raises(ph.ClosedError):
        hub.on("state_lost", print)
    with pytest.raises(ph.ClosedError):
        hub.intercept("child_data_alter", lambda spec, nodes: None)
