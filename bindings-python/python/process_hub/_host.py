"""The host of a hub: pulls what the core needs, runs user code, completes it.

Threads of this module are made by Python, are daemons, and end when the hub closes;
no thread of the core ever enters the interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from process_hub import _items
from process_hub._child import (
    Child,
    Context,
    HandoverTarget,
    Mode,
    StopReason,
)
from process_hub._current import current
from process_hub._kinds import Kinds, Registered, encode_with
from process_hub._loops import Loop
from process_hub._native import Payload
from process_hub.errors import HubError

if TYPE_CHECKING:
    from process_hub._native import NativeHub

_LOGGER = logging.getLogger("process_hub")
_MAX_TRACE_CHARACTERS = 16_384
_MODES = {mode.value: mode for mode in Mode}

Item = tuple[Any, ...]
Finish = Callable[["Host", int, "Instance", Any], None]


class Instance:
    """One running copy of a child in this hub."""

    __slots__ = ("child", "context", "handle", "kind", "tasks")

    def __init__(self, child: Child, context: Context, kind: Registered) -> None:
        self.child = child
        self.context = context
        self.kind = kind
        # None where `handle` is async: the hot path tests nothing else.
        self.handle = (
            child.handle
            if "handle" not in kind.asynchronous and kind.codec is None
            else None
        )
        self.tasks: set[asyncio.Task[None]] = set()

    def encode(self, value: Any) -> Any:
        """Write a value with the kind's codec, if it has one."""
        codec = self.kind.codec
        return value if codec is None else encode_with(codec, value)

    def decode(self, value: Any) -> Any:
        """Read a value with the kind's codec, if it was written with it."""
        codec = self.kind.codec
        if (
            codec is not None
            and type(value) is Payload
            and value.content_type == codec.content_type
        ):
            return codec.decode(value.data)
        return value


def describe(error: BaseException) -> tuple[str, str, str | None]:
    """Return the message, the trace and the kind of a failure of user code."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    name = type(error).__name__
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    kind = error.kind if isinstance(error, HubError) else None
    return (
        f"{name}: {text}" if text else name,
        trace[-_MAX_TRACE_CHARACTERS:],
        kind if kind == "not_encodable" else None,
    )


class Host:
    """Runs the callbacks of one hub."""

    def __init__(
        self, *, kinds: Kinds, loop: Loop, hub: Callable[[], Any], name: str
    ) -> None:
        self.native: NativeHub = cast("NativeHub", None)  # set by `begin`
        self.kinds = kinds
        self.loop = loop
        self.hub = hub
        self.interceptors: Callable[[str, list[str]], str] | None = None
        self.on_completed: Callable[[int, HubError | None, Any], None] = _ignore
        self._name = name
        self._instances: dict[int, Instance] = {}
        self._threads: list[threading.Thread] = []
        self._operations: dict[int, Callable[[int, Item], Item | None]] = {
            _items.START: self._start,
            _items.RUN: self._run,
            _items.CANCEL_RUN: self._cancel_run,
            _items.HANDLE: self._handle,
            _items.PREPARE_STATE: self._prepare_state,
            _items.ALTER_STATE: self._alter_state,
            _items.RESOLVE_CONFLICT: self._resolve_conflict,
            _items.REDUNDANCY_SIGNAL: self._redundancy_signal,
            _items.HANDOVER_START: self._handover_start,
            _items.SET_EPOCH: self._set_epoch,
            _items.STOP: self._stop,
            _items.DISCARD: self._discard,
            _items.ALTER_SPEC: self._alter_spec,
            _items.COMPLETED: self._completed,
            _items.ADD_THREAD: self._add_thread,
            _items.NOTHING: self._nothing,
        }

    # --- threads ---------------------------------------------------------------

    def begin(self, native: NativeHub) -> None:
        """Start to pull."""
        self.native = native
        self.add_worker()

    def add_worker(self) -> None:
        """Start another thread of the pool."""
        worker = self.native.add_thread()
        thread = threading.Thread(
            target=self._work,
            args=(worker,),
            name=f"process-hub-{self._name}-{worker}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # no threads any more: the interpreter ends
            self.native.remove_thread()
            return
        self._threads.append(thread)

    def join(self, timeout: float) -> None:
        """Wait for the threads that are not stuck in user code."""
        here = threading.current_thread()
        for thread in self._threads:
            if thread is not here:
                thread.join(timeout)
                timeout = min(timeout, 0.05)
        self.loop.close(timeout)

    def instance_count(self) -> int:
        """How many instances live here."""
        return len(self._instances)

    def _work(self, worker: int) -> None:
        native = self.native
        instances = self._instances
        operations = self._operations
        item = native.next_item(worker)
        while True:
            operation = item[0]
            if operation == _items.HANDLE:
                instance = instances.get(item[2])
                if instance is not None and instance.handle is not None:
                    current.set((self, worker, item[4]))
                    try:
                        reply = instance.handle(item[3])
                    except BaseException as error:
                        item = native.fail_and_next(worker, item[1], *describe(error))
                    else:
                        item = native.complete_and_next(worker, item[1], reply)
                    continue
            elif operation == _items.CLOSED:
                return
            try:
                following = operations[operation](worker, item)
            except BaseException:
                _LOGGER.exception("an item of the host queue could not be carried out")
                following = None
            item = native.next_item(worker) if following is None else following

    # --- one callback ----------------------------------------------------------

    def _call(
        self,
        worker: int,
        number: int,
        instance: Instance,
        callback: str,
        arguments: tuple[Any, ...],
        *,
        chain: tuple[str, ...] | None = None,
        finish: Finish | None = None,
    ) -> None:
        """Run a callback here or on the loop, and complete its call."""
        method = getattr(instance.child, callback)
        if chain is None:
            chain = (instance.context.child_id,)
        if finish is None:
            finish = _finish_without_value
        if callback in instance.kind.asynchronous:
            if not self.loop.post(
                self._begin_task,
                list(chain),
                number,
                instance,
                method,
                arguments,
                finish,
            ):
                self.native.fail(number, "the event loop is closed", None, None)
            return
        current.set((self, worker, chain))
        try:
            finish(self, number, instance, method(*arguments))
        except BaseException as error:
            self.native.fail(number, *describe(error))

    def _begin_task(
        self,
        chain: list[str],
        number: int,
        instance: Instance,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        finish: Finish,
    ) -> None:
        async def body() -> None:
            current.set((self, None, chain))
            try:
                finish(self, number, instance, await method(*arguments))
            except asyncio.CancelledError:
                self.native.fail(number, "the callback was cancelled", None, None)
            except BaseException as error:
                self.native.fail(number, *describe(error))
            finally:
                # Tasks that the callback leaves behind no longer wait for it.
                chain.clear()

        task = asyncio.get_running_loop().create_task(body())
        instance.tasks.add(task)
        task.add_done_callback(instance.tasks.discard)

    # --- operations ------------------------------------------------------------

    def _start(self, worker: int, item: Item) -> Item | None:
        _, number, key, child_id, kind_name, arguments, native_context = item
        kind = self.kinds.get(kind_name)
        if kind is None:
            message = f"kind {kind_name!r} is not registered here"
            return self.native.fail_and_next(worker, number, message, None, None)
        try:
            context = Context(self, key, child_id, native_context)
            current.set((self, worker, (child_id,)))
            instance = Instance(kind.make(), context, kind)
            self._instances[key] = instance
            if kind.codec is not None:
                arguments = instance.decode(arguments)
            if "start" in kind.asynchronous:
                self._call(worker, number, instance, "start", (context, arguments))
                return None
            instance.child.start(context, arguments)
        except BaseException as error:
            self._instances.pop(key, None)
            return self.native.fail_and_next(worker, number, *describe(error))
        return self.native.done_and_next(worker, number)

    def _run(self, worker: int, item: Item) -> None:
        _, number, key = item
        instance = self._instances.get(key)
        if instance is None:
            self._unknown(number)
            return
        instance.context._cancel = threading.Event()
        if "run" in instance.kind.asynchronous:
            self._run_on_loop(number, instance)
            return
        threading.Thread(
            target=self._run_on_thread,
            args=(number, instance),
            name=f"process-hub-run-{instance.context.child_id}",
            daemon=True,
        ).start()

    def _run_on_thread(self, number: int, instance: Instance) -> None:
        current.set((self, None, ()))
        try:
            instance.child.run(instance.context)
        except BaseException as error:
            self.native.fail(number, *describe(error))
        else:
            self.native.done(number)

    def _run_on_loop(self, number: int, instance: Instance) -> None:
        async def body() -> None:
            current.set((self, None, ()))
            cancelled = instance.context._cancel
            try:
                await instance.child.run(instance.context)
            except asyncio.CancelledError:
                if cancelled is None or not cancelled.is_set():
                    self.native.fail(number, "run was cancelled", None, None)
                    return
            except BaseException as error:
                self.native.fail(number, *describe(error))
                return
            self.native.done(number)

        def ended(task: asyncio.Task[None]) -> None:
            instance.tasks.discard(task)
            if task.cancelled():  # before its first step, so that `body` never ran
                self.native.done(number)

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(body(), name="run")
            instance.tasks.add(task)
            task.add_done_callback(ended)

        if not self.loop.post(begin):
            self.native.fail(number, "the event loop is closed", None, None)

    def _cancel_run(self, worker: int, item: Item) -> None:
        _, number, key = item
        instance = self._instances.get(key)
        if instance is not None:
            if instance.context._cancel is not None:
                instance.context._cancel.set()
            if "run" in instance.kind.asynchronous:
                self.loop.post(_cancel_tasks, instance, "run")
        self.native.done(number)

    def _handle(self, worker: int, item: Item) -> None:
        _, number, key, message, chain = item
        instance = self._instances.get(key)
        if instance is None:
            self._unknown(number)
            return
        self._call(
            worker,
            number,
            instance,
            "handle",
            (instance.decode(message),),
            chain=chain,
            finish=_finish_with_reply,
        )

    def _prepare_state(self, worker: int, item: Item) -> None:
        self._call_known(
            worker, item, "prepare_handover_state", finish=_finish_with_state
        )

    def _alter_state(self, worker: int, item: Item) -> None:
        self._call_known(worker, item, "alter_handover_state", item[3])

    def _resolve_conflict(self, worker: int, item: Item) -> None:
        self._call_known(worker, item, "resolve_conflict", item[3])

    def _redundancy_signal(self, worker: int, item: Item) -> None:
        mode = _MODES[item[3]]
        instance = self._instances.get(item[2])
        if instance is not None:
            instance.context.mode = mode
        self._call_known(worker, item, "redundancy_signal", mode)

    def _handover_start(self, worker: int, item: Item) -> None:
        node, epoch, error = item[3:]
        target = HandoverTarget(node=node, epoch=epoch, error=error)
        self._call_known(worker, item, "handover_start", target)

    def _set_epoch(self, worker: int, item: Item) -> None:
        instance = self._instances.get(item[2])
        if instance is not None:
            instance.context.epoch = item[3]
        self.native.done(item[1])

    def _stop(self, worker: int, item: Item) -> None:
        reason = StopReason(item[3])
        self._call_known(worker, item, "stop", reason)
        self._instances.pop(item[2], None)

    def _discard(self, worker: int, item: Item) -> None:
        instance = self._instances.pop(item[2], None)
        if instance is not None:
            if instance.context._cancel is not None:
                instance.context._cancel.set()
            if instance.tasks:
                self.loop.post(_cancel_tasks, instance, None)
        self.native.done(item[1])

    def _call_known(
        self,
        worker: int,
        item: Item,
        callback: str,
        *arguments: Any,
        finish: Finish | None = None,
    ) -> None:
        instance = self._instances.get(item[2])
        if instance is None:
            self._unknown(item[1])
            return
        if instance.kind.codec is not None:
            arguments = tuple(map(instance.decode, arguments))
        self._call(worker, item[1], instance, callback, arguments, finish=finish)

    def _alter_spec(self, worker: int, item: Item) -> None:
        _, number, _, spec, nodes = item
        current.set((self, worker, ()))
        try:
            altered = spec
            if self.interceptors is not None:
                altered = self.interceptors(spec, nodes)
            self.native.complete_json(number, altered)
        except BaseException as error:
            self.native.fail(number, *describe(error))

    def _completed(self, worker: int, item: Item) -> None:
        current.set((self, worker, ()))
        self.on_completed(*item[1:])

    def _add_thread(self, worker: int, item: Item) -> None:
        self.add_worker()

    def _nothing(self, worker: int, item: Item) -> None:
        """Ask again."""

    def _unknown(self, number: int) -> None:
        self.native.fail(number, "no such instance here", None, None)


def _ignore(request: int, error: HubError | None, value: Any) -> None:
    """Take no note of a completion."""


def _finish_without_value(
    host: Host, number: int, instance: Instance, result: Any
) -> None:
    host.native.done(number)


def _finish_with_reply(
    host: Host, number: int, instance: Instance, result: Any
) -> None:
    host.native.complete(number, instance.encode(result))


def _finish_with_state(
    host: Host, number: int, instance: Instance, result: Any
) -> None:
    if result is None:
        host.native.done(number)
    else:
        host.native.complete(number, instance.encode(result))


def _cancel_tasks(instance: Instance, name: str | None) -> None:
    for task in tuple(instance.tasks):
        if name is None or task.get_name() == name:
            task.cancel()


def handler_table(
    handlers: Mapping[str, Any],
) -> list[tuple[str, Callable[..., Any]]]:
    """Flatten ``hooks={name: handler or list of handlers}``."""
    table: list[tuple[str, Callable[..., Any]]] = []
    for name, given in handlers.items():
        several: list[Any] = given if isinstance(given, list) else [given]
        table.extend((name, handler) for handler in several)
    return table
