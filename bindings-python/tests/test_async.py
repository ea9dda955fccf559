"""The hub for asyncio: awaited operations, callbacks as tasks on its loop."""

import asyncio
import threading
import time

import process_hub as ph
import pytest
from conftest import KINDS, Counter, Echo


class AsyncCounter(ph.Child):
    async def start(self, ctx, args):
        await asyncio.sleep(0)
        self.ctx = ctx
        self.state = args or 0

    async def handle(self, message):
        await asyncio.sleep(0)
        if message == "loop":
            return threading.current_thread().name
        if isinstance(message, list):
            return await self.ctx.hub.call(message[0], message[1])
        if message == "raise":
            raise ValueError("on purpose")
        self.state += message
        return self.state


def run(body):
    asyncio.run(asyncio.wait_for(body, 30))


def hub_of(hub_id, **kinds):
    return ph.AsyncHub(
        hub_id, kinds={"async": AsyncCounter, **KINDS, **kinds}, profile="fast"
    )


def test_operations_awaited_then_answered(hub_id):
    async def body():
        async with hub_of(hub_id) as hub:
            started = await hub.start_child("c", "async", args=1)
            assert started.instances[0].node == hub.node_name
            assert await hub.call("c", 2) == 3
            result = await hub.start_children([ph.ChildSpec("d", "counter", 5)])
            assert result.raise_for_errors().status == "ok"
            assert await hub.call("d", 1) == 6
            assert hub.child_lookup("c").kind == "async"
            assert await hub.which_children() == {hub.node_name: ["c", "d"]}
            assert (await hub.where("c"))["owner"] == hub.node_name
            await hub.send("d", 1)
            await hub.sync()
            assert (await hub.stop_child("c")).id == "c"
            result = await hub.stop_children(["d"])
            assert result.status == "ok"
            with pytest.raises(ph.NotFoundError):
                await hub.call("c", 1)
        with pytest.raises(ph.ClosedError):
            await hub.call("d", 1)

    run(body())


def test_async_callbacks_then_on_the_loop_and_sync_ones_on_threads(hub_id):
    class Threaded(ph.Child):
        stateless = True

        def handle(self, message):
            return threading.current_thread().name

    async def body():
        async with hub_of(hub_id, threaded=Threaded) as hub:
            await hub.start_child("a", "async")
            await hub.start_child("t", "threaded")
            assert await hub.call("a", "loop") == threading.current_thread().name
            assert (await hub.call("t")).startswith("process-hub-")

    run(body())


def test_child_that_waits_then_blocks_no_other(hub_id):
    async def body():
        release, entered = asyncio.Event(), asyncio.Event()

        class Waiting(ph.Child):
            stateless = True

            async def handle(self, message):
                entered.set()
                await release.wait()
                return "released"

        async with hub_of(hub_id, waiting=Waiting) as hub:
            await hub.start_child("w", "waiting")
            await hub.start_child("a", "async")
            waiting = hub.call("w")
            await entered.wait()
            assert await hub.call("a", 7) == 7
            release.set()
            assert await waiting == "released"

    run(body())


def test_chain_of_async_calls_then_answered_or_would_deadlock(hub_id):
    async def body():
        async with hub_of(hub_id) as hub:
            await hub.start_child("a", "async")
            await hub.start_child("b", "async", args=1)
            assert await hub.call("a", ["b", 5]) == 6
            with pytest.raises(ph.ChildFailedError, match="WouldDeadlockError"):
                await hub.call("a", ["b", ["a", 1]])

    run(body())


def test_task_left_behind_by_a_callback_then_may_call_its_own_child(hub_id):
    async def body():
        reply = asyncio.get_running_loop().create_future()

        class Spawning(ph.Child):
            stateless = True

            async def start(self, ctx, args):
                self.ctx = ctx

            async def handle(self, message):
                if message == "again":
                    return "answered"

                async def later():
                    await asyncio.sleep(0.01)
                    reply.set_result(await self.ctx.hub.call("s", "again"))

                self.task = asyncio.create_task(later())
                return "spawned"

        async with hub_of(hub_id, spawning=Spawning) as hub:
            await hub.start_child("s", "spawning")
            assert await hub.call("s", "go") == "spawned"
            assert await asyncio.wait_for(reply, 5) == "answered"

    run(body())


def test_async_callback_raises_then_child_failed_with_its_trace(hub_id):
    async def body():
        async with hub_of(hub_id) as hub:
            await hub.start_child("a", "async")
            with pytest.raises(ph.ChildFailedError) as caught:
                await hub.call("a", "raise")
            assert "ValueError: on purpose" in caught.value.message
            assert "Traceback" in caught.value.trace
            assert await hub.call("a", 1) == 1

    run(body())


def test_async_body_then_cancelled_at_the_stop(hub_id):
    async def body():
        running, cancelled = asyncio.Event(), asyncio.Event()

        class Worker(ph.Child):
            stateless = True

            async def run(self, ctx):
                running.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

        async with hub_of(hub_id, worker=Worker) as hub:
            await hub.start_child("w", "worker")
            await asyncio.wait_for(running.wait(), 5)
            await hub.stop_child("w")
            assert cancelled.is_set()

    run(body())


def test_call_cancelled_then_the_hub_lives(hub_id):
    async def body():
        entered, release = asyncio.Event(), asyncio.Event()

        class Waiting(ph.Child):
            stateless = True

            async def handle(self, message):
                entered.set()
                await release.wait()

        async with hub_of(hub_id, waiting=Waiting) as hub:
            await hub.start_child("w", "waiting")
            waiting = asyncio.ensure_future(hub.call("w"))
            await entered.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            release.set()
            assert await hub.call("w") is None

    run(body())


def test_operation_not_awaited_then_still_done(hub_id):
    async def body():
        async with hub_of(hub_id) as hub:
            hub.start_child("c", "async", args=4)
            assert await hub.call("c", 1) == 5

    run(body())


def test_stop_inside_a_callback_then_would_deadlock(hub_id):
    async def body():
        class Stopping(ph.Child):
            stateless = True

            async def start(self, ctx, args):
                self.ctx = ctx

            async def handle(self, message):
                await self.ctx.hub.stop()

        async with hub_of(hub_id, stopping=Stopping) as hub:
            await hub.start_child("s", "stopping")
            with pytest.raises(ph.ChildFailedError, match="WouldDeadlockError"):
                await hub.call("s")

    run(body())


def test_async_hooks_then_on_the_loop(hub_id):
    async def body():
        told = asyncio.Event()

        async def handler(payload):
            told.set()

        async with hub_of(hub_id) as hub:
            hub.on("post_children_start", handler)
            await hub.start_child("c", "async")
            await asyncio.wait_for(told.wait(), 5)

    run(body())


def test_made_outside_of_a_loop_then_refused(hub_id):
    with pytest.raises(ph.InvalidArgumentError, match="loop"):
        ph.AsyncHub(hub_id)


def test_blocking_hub_with_async_callbacks_then_on_a_loop_of_its_own(hub_id):
    class Slow(ph.Child):
        stateless = True

        async def handle(self, message):
            await asyncio.sleep(0)
            return threading.current_thread().name

    with ph.Hub(hub_id, kinds={"slow": Slow, "echo": Echo}) as hub:
        hub.start_child("s", "slow").result(5)
        assert hub.call("s") == "process-hub-loop"


def test_blocking_and_async_hubs_then_one_cluster(hub_id):
    async def body():
        async with hub_of(hub_id) as hub:
            other = ph.Hub(
                hub_id, kinds={"counter": Counter}, seeds=[hub.address], profile="fast"
            )
            await asyncio.to_thread(other.start)
            try:
                while len(hub.nodes()) < 1:
                    await asyncio.sleep(0.01)
                await hub.start_child("x", "counter", args=3)
                assert await asyncio.to_thread(other.call, "x", 1) == 4
            finally:
                await asyncio.to_thread(other.stop)

    run(body())


def test_callback_cancelled_before_its_first_step_then_its_call_is_answered(hub_id):
    class Slow(ph.Child):
        async def handle(self, message):
            return message

    async def body():
        loop = asyncio.get_running_loop()
        async with ph.AsyncHub(hub_id, kinds={"slow": Slow}) as hub:
            await hub.start_child("c", "slow")
            doomed = []

            def cancel_callbacks(loop, coroutine, **options):
                task = asyncio.Task(coroutine, loop=loop, **options)
                if "_begin_task" in coroutine.__qualname__:
                    doomed.append(task.cancel())
                return task

            loop.set_task_factory(cancel_callbacks)
            with pytest.raises(ph.ChildFailedError, match="was cancelled"):
                await hub.call("c", 1, timeout=10.0)
            loop.set_task_factory(None)
            assert doomed == [True]
            assert await hub.call("c", 2) == 2

    run(body())


def test_run_cancelled_before_its_first_step_then_the_stop_does_not_wait(hub_id):
    class Worker(ph.Child):
        stateless = True

        def start(self, ctx, args):
            if args == "fail":
                raise RuntimeError("on purpose")

        async def run(self, ctx):
            await asyncio.Event().wait()

    specs = [ph.ChildSpec("fails", "worker", "fail")]
    specs += [ph.ChildSpec(f"w{n}", "worker") for n in range(8)]
    with ph.Hub(hub_id, kinds={"worker": Worker}) as hub:
        begin = time.monotonic()
        # What started is stopped at once: far quicker than the 5 s of `shutdown`.
        result = hub.start_children(specs, on_failure="rollback").result(20)
        assert result.rollback
        assert time.monotonic() - begin < 3
