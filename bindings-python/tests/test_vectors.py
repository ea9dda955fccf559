"""The vectors that every language loads: tests/vectors of the repository."""

import json
import socket
from dataclasses import asdict
from pathlib import Path

import process_hub as ph
import pytest
from conftest import KINDS
from process_hub import errors

_VECTORS = Path(__file__).parents[2] / "tests" / "vectors"
_BASIC = {
    "any": lambda value: True,
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and value is not True,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def read(name):
    vectors = json.loads((_VECTORS / name).read_text())
    assert vectors["source"]
    assert vectors["reason"]
    return vectors


SHAPES = read("results.json")["shapes"]
CONFIG = read("config.json")
PLACEMENT = read("placement.json")["vectors"]
FRAMES = read("frames.json")


def named(case):
    return case.get("name") or case["case"]


def check(shape, value, path="$"):
    """Say where a value differs from a shape; None where it does not."""
    if isinstance(shape, str):
        if " | " in shape:
            problems = [check(one, value, path) for one in shape.split(" | ")]
            return None if None in problems else problems[0]
        if shape in _BASIC:
            return None if _BASIC[shape](value) else f"{path}: {value!r} is no {shape}"
        return check(SHAPES[shape], value, path)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path}: {value!r} is no list"
        pairs = [(shape[0], item, f"{path}[{n}]") for n, item in enumerate(value)]
    elif not isinstance(value, dict):
        return f"{path}: {value!r} is no object"
    elif "*" in shape:
        pairs = [(shape["*"], item, f"{path}.{key}") for key, item in value.items()]
    elif shape.keys() != value.keys():
        return f"{path}: the keys are {sorted(value)}, not {sorted(shape)}"
    else:
        pairs = [(shape[key], value[key], f"{path}.{key}") for key in shape]
    return next(
        (problem for problem in (check(*pair) for pair in pairs) if problem), None
    )


def test_table_of_errors_then_one_class_for_each_with_its_number():
    table = {row["kind"]: row["number"] for row in read("errors.json")["errors"]}
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ph.HubError)
    ]
    numbers = {one.kind: one("x").code for one in classes if one is not ph.HubError}
    assert numbers == table


@pytest.mark.parametrize("case", CONFIG["accept"], ids=named)
def test_config_to_accept_then_the_hub_starts(case):
    document = {**case["doc"], "child_specs": []}
    node = document.get("node") or {}
    # What the machine may not have (a name's address, a key's file) is another test's.
    kept = {key: node[key] for key in ("labels", "weight", "name") if key in node}
    # A node of its own needs a name under a quorum strategy.
    document["node"] = {"name": "vector", **kept}
    # What a document may name.
    strategies: ph.Strategies = {"migration": {"mine": lambda question: None}}
    with ph.Hub.from_config(document, strategies=strategies) as hub:
        assert hub.is_alive()


@pytest.mark.parametrize("case", CONFIG["reject"], ids=named)
def test_config_to_refuse_then_every_path_is_named(case):
    with pytest.raises(ph.InvalidConfigError) as caught:
        ph.Hub.from_config(case["doc"]).start()
    # Of what is no mapping Python says that alone.
    paths = case["paths"] if isinstance(case["doc"], dict) else ["$"]
    for path in paths:
        assert path in str(caught.value)


@pytest.mark.parametrize("case", CONFIG["accept_node"], ids=named)
def test_node_to_accept_then_it_starts(case):
    with ph.Node.from_config(case["doc"]) as node:
        assert node.name == case["doc"].get("name", node.name)


@pytest.mark.parametrize("case", CONFIG["reject_node"], ids=named)
def test_node_to_refuse_then_every_path_is_named(case):
    with pytest.raises(ph.InvalidConfigError) as caught:
        ph.Node.from_config(case["doc"]).start()
    for path in case["paths"]:
        assert f"{path}: " in str(caught.value)


def test_results_then_of_these_shapes(hub):
    specs = [
        ph.ChildSpec("c", "counter", metadata={"tag": "x"}),
        {"id": "d", "kind": "nobody has it"},
    ]
    started = hub.start_children(specs).result(5)
    with pytest.raises(ph.NotFoundError) as caught:
        hub.call("nobody", 1)
    facts = ("kind", "code", "operation", "message", "child_id", "node", "trace")
    shown = {
        "StartResult": {
            "status": started.status,
            "started": [asdict(one) for one in started.started],
            "errors": [asdict(one) for one in started.errors],
            "rollback": started.rollback,
        },
        "Row | null": hub.child_lookup("c").to_json(),
        "Registry": {id: row.to_json() for id, row in hub.process_registry().items()},
        "Rows": [row.to_json() for row in hub.tag_query("x")],
        "Children": hub.which_children("global"),
        "Where": hub.where("c"),
        "Plan": hub.plan({"leave": [hub.node_name]}),
        "DebugStats": hub.debug_stats(),
        "StopResult": asdict(hub.stop_children(["c", "nobody"]).result(5)),
        "DrainReport": asdict(hub.drain()),
        "Error": {
            "maybe_executed": caught.value.maybe_executed,
            **{fact: getattr(caught.value, fact) for fact in facts},
        },
    }
    problems = {shape: check(shape, value) for shape, value in shown.items()}
    assert {shape: why for shape, why in problems.items() if why} == {}


@pytest.mark.parametrize("case", PLACEMENT, ids=named)
def test_placement_then_plan_moves_children_where_the_vectors_say(hub_id, case):
    if case["factor"] != 1 or case["require"]:
        pytest.skip("the plan of a hub has one instance per child and no labels")
    kinds = {case["kind"]: KINDS["echo"]}
    with ph.Hub(hub_id, kinds=kinds, name="hub of the test") as hub:
        specs = [ph.ChildSpec(id, case["kind"]) for id in case["expected"]]
        hub.start_children(specs).result(10).raise_for_errors()
        joins = [
            {
                "name": node["name"],
                "kinds": node["kinds"],
                "weight": node["weight"] / 1000,
            }
            for node in case["nodes"]
        ]
        moves = {move["id"]: move["to"] for move in hub.plan({"join": joins})["moves"]}
    # This node takes its share; whatever does not go to it goes where the vector says.
    owners = {id: nodes[0] for id, nodes in case["expected"].items() if nodes}
    assert moves == {id: to for id, to in owners.items() if id in moves}
    assert moves or not owners


def test_bytes_at_the_port_then_answered_or_closed_and_the_hub_lives(hub_id):
    reply = bytes.fromhex(FRAMES["reply"])
    security = ph.InsecurePlaintext()
    with ph.Hub(hub_id, kinds=KINDS, security=security) as hub:
        host, port = hub.address.rsplit(":", 1)
        for case in FRAMES["cases"]:
            with socket.create_connection((host, int(port)), timeout=10) as peer:
                peer.sendall(bytes.fromhex(case["bytes"]))
                answer = b""
                try:
                    while chunk := peer.recv(4096):
                        answer += chunk
                        if case["then"] == "answers" and len(answer) >= len(reply):
                            break
                except ConnectionResetError:
                    pass
            if case["then"] == "answers":
                assert answer.startswith(reply), case["name"]
            else:
                assert answer[:8] in (b"", reply[:8]), case["name"]
        hub.start_child("c", "counter").result(5)
        assert hub.call("c", 1) == 1
