"""Strategies of the program's own: asked in Python, replaced by the built-in."""

import asyncio
import threading

import process_hub as ph
import pytest
from conftest import KINDS, eventually

CHILDREN = 20
MIGRATION = ph.Custom(name="mine", base=ph.HotSwap(handover=True))


def ids(question):
    return [move["id"] for move in question["moves"]]


def backwards(question):
    return sorted(ids(question), reverse=True)


def options(order, **more):
    return {"migration": MIGRATION, "strategies": {"migration": {"mine": order}}} | more


def counters():
    return [ph.ChildSpec(f"c{n}", "counter", n) for n in range(CHILDREN)]


def moved_to(hub, node):
    rows = hub.process_registry().values()
    return {row.id for row in rows if [i.node for i in row.instances] == [node]}


def join(cluster, order):
    """Return two hubs, the second of which took some of the first's children."""
    told = []
    a = cluster("a", **options(order, hooks={"strategy_fallback": told.append}))
    a.start_children(counters()).result(15).raise_for_errors()
    b = cluster("b", **options(backwards))
    eventually(lambda: moved_to(a, "b") and not a.is_locked(), "children move to b")
    values = [b.call(f"c{n}", "get") for n in range(CHILDREN)]
    assert values == list(range(CHILDREN))
    return a, told


def test_function_orders_the_moves_then_those_children_move(cluster):
    asked = []

    def order(question):
        asked.append((question, threading.current_thread().name))
        return backwards(question)

    a, told = join(cluster, order)
    question, thread = asked[0]
    assert thread.startswith("process-hub-")
    assert {(move["from"], move["to"]) for move in question["moves"]} == {("a", "b")}
    eventually(lambda: moved_to(a, "b") == set(ids(question)), "all of them move")
    assert told == []


def test_function_is_a_coroutine_then_it_runs_on_the_loop(cluster):
    names = []

    async def order(question):
        await asyncio.sleep(0)
        names.append(threading.current_thread().name)
        return backwards(question)

    _, told = join(cluster, order)
    assert set(names) == {"process-hub-loop"}
    assert told == []


def test_async_hub_then_a_coroutine_decides_on_its_loop(cluster, hub_id):
    async def body():
        threads = []

        async def order(question):
            threads.append(threading.current_thread())
            return backwards(question)

        a = ph.AsyncHub(hub_id, kinds=KINDS, name="a", profile="fast", **options(order))
        async with a:
            (await a.start_children(counters())).raise_for_errors()
            seeds = [a.address]
            b = ph.AsyncHub(
                hub_id,
                kinds=KINDS,
                name="b",
                seeds=seeds,
                profile="fast",
                **options(backwards),
            )
            async with b:
                while not moved_to(a, "b"):
                    await asyncio.sleep(0.005)
        assert set(threads) == {threading.current_thread()}

    asyncio.run(asyncio.wait_for(body(), 60))


def fail(question):
    raise KeyError("no idea")


async def fail_later(question):
    raise KeyError("no idea")


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (fail, "KeyError: 'no idea'"),
        (fail_later, "KeyError: 'no idea'"),
        (lambda question: None, "the answer is not a list of the moves' ids"),
        (lambda question: b"c1", "the answer is not JSON"),
        (lambda question: {1: 2}, "$: the key 1 is not a text"),
        (lambda question: [1], "1 in the answer is not an id"),
        (lambda question: ids(question)[1:], "the answer leaves out c"),
        (lambda question: [*ids(question), "new"], 'the answer names "new"'),
    ],
)
def test_bad_answer_then_the_base_decides_and_strategy_fallback_tells(
    cluster, order, why
):
    _, told = join(cluster, order)
    eventually(lambda: told, "the hook tells")
    assert told[0]["strategy"] == "mine"
    assert why in told[0]["why"]


@pytest.mark.parametrize("is_async", [False, True])
def test_late_answer_then_the_base_decides_and_strategy_fallback_tells(
    cluster, is_async
):
    release = threading.Event()

    def block(question):
        release.wait(20)
        return backwards(question)

    async def wait(question):
        try:
            await asyncio.Event().wait()
        finally:
            release.set()

    a, told = join(cluster, wait if is_async else block)
    eventually(lambda: told, "the hook tells")
    assert told[0] == {"strategy": "mine", "why": "`decide` did not end in time"}
    if not is_async:
        release.set()
    assert release.wait(20), "a coroutine is cancelled"
    assert a.call("c0", "get") == 0


def test_document_of_the_configuration_then_the_same(hub_id):
    document = {
        "hub_id": hub_id,
        "migration": {"type": "custom", "name": "mine", "base": {"type": "hot_swap"}},
    }
    strategies: ph.Strategies = {"migration": {"mine": backwards}}
    with ph.Hub.from_config(document, strategies=strategies) as hub:
        assert hub.is_alive()
    assert ph.Custom(name="mine", base=ph.HotSwap()).to_json() == document["migration"]


@pytest.mark.parametrize(
    ("strategies", "error", "message"),
    [
        (None, ph.InvalidConfigError, "migration.name: no strategy of the name mine"),
        ({"distribution": {"mine": backwards}}, ph.InvalidConfigError, "none is"),
        ({"migration": {"his": backwards}}, ph.InvalidConfigError, "registered is his"),
        ({"moves": {"mine": backwards}}, ph.InvalidArgumentError, "must be one of"),
        ({"migration": {"mine": 7}}, ph.InvalidArgumentError, "must be callable"),
        ({"migration": backwards}, ph.InvalidArgumentError, "must be a mapping"),
        ([backwards], ph.InvalidArgumentError, "must be a mapping"),
    ],
)
def test_strategy_that_is_none_then_refused(hub_id, strategies, error, message):
    with (
        pytest.raises(error, match=message),
        ph.Hub(hub_id, migration=MIGRATION, strategies=strategies),
    ):
        pass


@pytest.mark.parametrize("family", ["redundancy", "distribution"])
def test_family_whose_question_is_not_asked_yet_then_refused(hub_id, family):
    custom = {family: ph.Custom(name="mine")}
    strategies = {family: {"mine": backwards}}
    message = f"{family}.type: custom is not available in this version"
    with (
        pytest.raises(ph.InvalidConfigError, match=message),
        ph.Hub(hub_id, strategies=strategies, **custom),
    ):
        pass
