"""How processes end: scripts as subprocesses, with their exit code and time."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
import os, signal, sys, threading, time, multiprocessing
import process_hub as ph

sleeping = threading.Event()

class Counter(ph.Child):
    def start(self, ctx, args):
        self.ctx = ctx
        self.state = args or 0
    def handle(self, message):
        if message == "sleep":
            print("sleeping", flush=True)
            sleeping.set()
            time.sleep(30)  # longer than any test: the call stays in flight
        if message == "sys.exit":
            sys.exit(5)
        self.state += message
        return self.state

def make(**options):
    return ph.Hub("exit", kinds={"counter": Counter}, profile="fast", **options)
"""


def script(body, *, interrupt_after=None, timeout=20):
    """Run a script; returns its exit code, its output and how long it took."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "default", "-c", PRELUDE + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    try:
        if interrupt_after is not None:
            for line in process.stdout:
                lines.append(line)
                if interrupt_after in line:
                    process.send_signal(signal.SIGINT)
                    break
        rest, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, "".join(lines) + rest, time.monotonic() - begin


def test_hub_left_open_then_clean_exit():
    code, output, seconds = script("""
        hub = make().start()
        hub.start_child("c", "counter").result(5)
        print(hub.call("c", 1))
    """)
    assert (code, output) == (0, "1\n")
    assert seconds < 10


def test_closed_twice_then_clean_exit():
    code, output, _ = script("""
        hub = make().start()
        hub.stop(); hub.stop()
        try: hub.call("c", 1)
        except ph.ClosedError as error: print(error.kind)
    """)
    assert (code, output) == (0, "closed\n")


def test_unhandled_exception_then_code_1_and_its_traceback():
    code, output, seconds = script("""
        hub = make().start()
        raise RuntimeError("the user's bug")
    """)
    assert code == 1
    assert "the user's bug" in output
    assert "Fatal" not in output
    assert seconds < 10


def test_exception_inside_with_then_the_hub_stops_and_code_1():
    code, output, _ = script("""
        with make() as hub:
            hub.start_child("c", "counter").result(5)
            raise RuntimeError("the user's bug")
    """)
    assert code == 1
    assert "the user's bug" in output


def test_sys_exit_in_a_callback_then_the_process_lives():
    code, output, _ = script("""
        with make() as hub:
            hub.start_child("c", "counter").result(5)
            try: hub.call("c", "sys.exit")
            except ph.ChildFailedError as error: print("contained")
            print(hub.call("c", 1))
    """)
    assert (code, output) == (0, "contained\n1\n")


def test_sys_exit_with_hub_open_then_its_code():
    code, output, _ = script("""
        hub = make().start()
        sys.exit(7)
    """)
    assert (code, output) == (7, "")


def test_call_in_flight_at_exit_then_bounded():
    code, output, seconds = script("""
        hub = make(shutdown_timeout=2).start()
        hub.start_child("c", "counter").result(5)
        threading.Thread(target=lambda: hub.call("c", "sleep"), daemon=True).start()
        assert sleeping.wait(10)
    """)
    assert code == 0
    assert "Fatal" not in output
    assert seconds < 18


def test_two_hubs_left_open_then_clean_exit():
    code, output, _ = script("""
        a = make().start()
        b = make(seeds=[a.address]).start()
        a.start_child("c", "counter").result(5)
        print(b.call("c", 1, timeout=10))
    """)
    assert (code, output) == (0, "1\n")


def test_handler_registered_later_with_atexit_then_sees_a_live_hub():
    code, output, _ = script("""
        import atexit
        hub = make().start()
        hub.start_child("c", "counter").result(5)
        atexit.register(lambda: print(hub.call("c", 1)))
    """)
    assert (code, output) == (0, "1\n")


def test_body_on_a_thread_at_exit_then_clean_exit():
    code, output, _ = script("""
        class Worker(ph.Child):
            def run(self, ctx):
                ctx.wait_cancelled()
                print("cancelled", flush=True)
        hub = make().start()
        hub.register("worker", Worker)
        hub.start_child("w", "worker").result(5)
    """)
    assert (code, output) == (0, "cancelled\n")


def test_hub_in_a_daemon_thread_then_clean_exit():
    code, output, _ = script("""
        ready = threading.Event()
        def serve():
            hub = make().start()
            hub.start_child("c", "counter").result(5)
            ready.set()
            threading.Event().wait()
        threading.Thread(target=serve, daemon=True).start()
        ready.wait(10)
        print("ready")
    """)
    assert (code, output) == (0, "ready\n")


def test_async_hub_left_open_then_clean_exit():
    code, output, _ = script("""
        import asyncio
        async def main():
            hub = ph.AsyncHub("exit", kinds={"counter": Counter})
            await hub.start()
            await hub.start_child("c", "counter")
            print(await hub.call("c", 1), flush=True)
            keep.append(hub)
        keep = []
        asyncio.run(main())
    """)
    assert (code, output) == (0, "1\n")


@pytest.mark.parametrize(
    "wait",
    [
        'hub.call("c", "sleep", timeout=30)',
        'hub._future(hub._native.begin_call("c", "sleep", 30000, None, None), str)'
        ".result()",
        'hub.call("c", "sleep", timeout=30, node=hub.node_name)',
    ],
)
def test_ctrl_c_in_a_wait_then_keyboard_interrupt_soon(wait):
    code, output, seconds = script(
        f"""
        hub = make(shutdown_timeout=1).start()
        hub.start_child("c", "counter").result(5)
        try: {wait}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """,
        interrupt_after="sleeping",
    )
    assert (code, output) == (0, "sleeping\ninterrupted\n")
    assert seconds < 8


def test_ctrl_c_while_the_hub_stops_then_keyboard_interrupt_soon():
    code, output, seconds = script(
        """
        class Slow(ph.Child):
            def stop(self, reason):
                print("stopping", flush=True)
                time.sleep(30)
        hub = make(shutdown_timeout=20).start()
        hub.register("slow", Slow)
        hub.start_child("s", "slow", shutdown=20).result(5)
        try: hub.stop()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """,
        interrupt_after="stopping",
    )
    assert (code, output) == (0, "stopping\ninterrupted\n")
    assert seconds < 8


def test_fork_then_forked_error_in_the_child_and_the_parent_lives():
    code, output, _ = script("""
        import warnings; warnings.simplefilter("ignore")
        hub = make().start()
        hub.start_child("c", "counter").result(5)
        pid = os.fork()
        if pid == 0:
            for operation in (lambda: hub.call("c", 1), hub.nodes, hub.stop):
                try: operation()
                except ph.ForkedError as error: print("spawn" in str(error), flush=True)
            print(hub, hub.is_alive(), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(hub.call("c", 1))
        hub.stop()
    """)
    lines = output.splitlines()
    assert code == 0
    assert lines == ["True", "True", "True", "<Hub 'exit' forked> False", "1"]


def test_fork_then_the_child_keeps_neither_the_port_nor_a_connection():
    """The parent's port is free again although the forked process lives on."""
    code, output, _ = script("""
        import warnings; warnings.simplefilter("ignore")
        def sockets():
            links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
            open_links = [it for it in links if os.path.islink(it)]
            return sum("socket:" in os.readlink(it) for it in open_links)

        before = sockets()
        hub = make().start()
        other = ph.Hub("exit", seeds=[hub.address], profile="fast").start()
        while len(hub.nodes()) < 1:
            time.sleep(0.01)
        print(sockets() > before + 2, flush=True)
        wait, go_on = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go_on)
            print(sockets() == before, flush=True)
            os.read(wait, 1)
            os._exit(0)
        address = hub.address
        hub.stop()
        again = ph.Hub("exit", listen=address, name="again", profile="fast").start()
        print(again.address == address, flush=True)
        again.stop()
        other.stop()
        os.close(go_on)
        print(os.waitpid(pid, 0)[1], flush=True)
    """)
    assert code == 0
    assert output.splitlines() == ["True", "True", "True", "0"]


def test_fork_inside_with_then_the_child_leaves_it_silently():
    code, output, _ = script("""
        import warnings; warnings.simplefilter("ignore")
        with make() as hub:
            hub.start_child("c", "counter").result(5)
            pid = os.fork()
            if pid == 0:
                sys.exit(0)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), hub.call("c", 1))
    """)
    assert (code, output) == (0, "0 1\n")


@pytest.mark.parametrize(
    "before", ["pass", "with make(): pass"], ids=["no hub", "a hub that was stopped"]
)
def test_hub_started_after_a_fork_then_it_works_in_both(before):
    body = """
        pid = os.fork()
        with make() as hub:
            hub.start_child("mine", "counter").result(5)
            # One write: both processes share the pipe.
            os.write(1, f"{hub.call('mine', 1)}\\n".encode())
        if pid:
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status))
    """
    code, output, _ = script(f"{before}\n{textwrap.dedent(body)}")
    assert (code, output) == (0, "1\n1\n0\n")


def test_hub_started_in_a_fork_of_a_running_one_then_forked_error():
    code, output, _ = script("""
        import warnings; warnings.simplefilter("ignore")
        with make() as hub:
            pid = os.fork()
            if pid == 0:
                try: make().start()
                except ph.ForkedError as error:
                    print("forkserver" in str(error), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
    """)
    assert (code, output) == (0, "True\n")


MULTIPROCESSING = """
import multiprocessing, sys, time
import process_hub as ph

class Counter(ph.Child):
    def start(self, ctx, args): self.state = 0
    def handle(self, message):
        self.state += message
        return self.state

def work(address, queue):
    with ph.Hub("mp", seeds=[address], profile="fast") as hub:
        while hub.child_lookup("c") is None:  # until the registry has come over
            time.sleep(0.01)
        queue.put(hub.call("c", 1, timeout=10))

if __name__ == "__main__":
    import warnings; warnings.simplefilter("ignore")
    context = multiprocessing.get_context(sys.argv[1])
    with ph.Hub("mp", kinds={"counter": Counter}, profile="fast") as hub:
        hub.start_child("c", "counter").result(5)
        queue = context.Queue()
        workers = [
            context.Process(target=work, args=(hub.address, queue)) for _ in range(2)
        ]
        for worker in workers: worker.start()
        print(sorted(queue.get(timeout=20) for _ in workers))
        for worker in workers: worker.join(20)
        print([worker.exitcode for worker in workers])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_then_each_process_joins_with_a_hub_of_its_own(
    method, tmp_path
):
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(program), method],
        capture_output=True,
        text=True,
        timeout=40,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[1, 2]\n[0, 0]\n"), done.stderr


def test_import_then_no_thread_and_no_handler():
    code, output, _ = script("""
        print(threading.active_count(), len(os.listdir("/proc/self/task")))
    """)
    assert (code, output) == (0, "1 1\n")
