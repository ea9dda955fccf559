"""The host of a hub: pulls what the core needs, runs user code, completes it.

Threads of this module are made by Python, are daemons, and end when the hub closes;
no thread of the core ever enters the interpreter.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from process_hub import _items
from process_hub._child import (
    Context,
    HandoverTarget,
    Mode,
    StopReason,
)
from process_hub._current import current
from process_hub._kinds import Kinds, Registered
from process_hub._loops import Loop
from process_hub._strategies import Decide
from process_hub.errors import HubError

if TYPE_CHECKING:
    from process_hub._native import NativeHub

_LOGGER = logging.getLogger("process_hub")
_MAX_TRACE_CHARACTERS = 16_384
_MODES = {mode.value: mode for mode in Mode}
_STOP_REASONS = {reason.value: reason for reason in StopReason}
_NOTHING = object()

Item = tuple[Any, ...]
# Makes of what a callback returned what the core is told, or `_NOTHING`.
Answer = Callable[[Registered, Any], Any]


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


def _no_value(kind: Registered, result: Any) -> Any:
    return _NOTHING


def _reply(kind: Registered, result: Any) -> Any:
    return kind.encode(result)


def _state(kind: Registered, result: Any) -> Any:
    return _NOTHING if result is None else kind.encode(result)


class Host:
    """Runs the callbacks of one hub."""

    def __init__(
        self,
        *,
        kinds: Kinds,
        strategies: Mapping[tuple[str, str], Decide],
        loop: Loop,
        hub: Callable[[], Any],
        name: str,
    ) -> None:
        self.native: NativeHub = cast("NativeHub", None)  # set by `begin`
        self.kinds = kinds
        self.loop = loop
        self.hub = hub
        self.strategies = strategies
        self.interceptors: Callable[[str, list[str]], str] | None = None
        self.on_completed: Callable[[int, HubError | None, Any], None] = _ignore
        self._name = name
        self._instances: dict[int, Context] = {}
        self._decisions: set[asyncio.Task[None]] = set()
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
            _items.SET_ROLE: self._set_role,
            _items.STOP: self._stop,
            _items.DISCARD: self._discard,
            _items.ALTER_SPEC: self._alter_spec,
            _items.COMPLETED: self._completed,
            _items.ADD_THREAD: self._add_thread,
            _items.DECIDE: self._decide,
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
                context = instances.get(item[2])
                if context is not None and context._kind.handles_here:
                    current.set((self, worker, item[4]))
                    try:
                        reply = context._child.handle(item[3])
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
        item: Item,
        callback: str,
        *arguments: Any,
        answer: Answer = _no_value,
        chain: Sequence[str] | None = None,
        is_last: bool = False,
    ) -> Item | None:
        """Run a callback here or on the loop, complete its call, and pull."""
        number, key = item[1], item[2]
        context = self._instances.get(key)
        if context is None:
            return self._unknown(worker, number)
        kind = context._kind
        method = getattr(context._child, callback)
        if chain is None:
            chain = (context.child_id,)
        if kind.codec is not None:
            arguments = tuple(map(kind.decode, arguments))
        if callback in kind.asynchronous:
            self._post(context, number, chain, answer, method, arguments)
            if is_last:
                self._forget(key)
            return None
        current.set((self, worker, chain))
        try:
            value = answer(kind, method(*arguments))
        except BaseException as error:
            return self.native.fail_and_next(worker, number, *describe(error))
        finally:
            if is_last:
                self._forget(key)
        if value is _NOTHING:
            return self.native.done_and_next(worker, number)
        return self.native.complete_and_next(worker, number, value)

    def _post(
        self,
        context: Context,
        number: int,
        chain: Sequence[str],
        answer: Answer,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        """Run a callback on the loop."""
        begin = self._begin_task
        waiting = list(chain)
        if not self.loop.post(
            begin, context, number, waiting, answer, method, arguments
        ):
            self.native.fail(number, "the event loop is closed", None, None)

    def _begin_task(
        self,
        context: Context,
        number: int,
        chain: list[str],
        answer: Answer,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        async def body() -> None:
            current.set((self, None, chain))
            try:
                value = answer(context._kind, await method(*arguments))
                if value is _NOTHING:
                    self.native.done(number)
                else:
                    self.native.complete(number, value)
            except asyncio.CancelledError:
                self.native.fail(number, "the callback was cancelled", None, None)
            except BaseException as error:
                self.native.fail(number, *describe(error))
            finally:
                # Tasks that the callback leaves behind no longer wait for it.
                chain.clear()

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # before its first step, so that `body` never ran
                self.native.fail(number, "the callback was cancelled", None, None)

        _begin_task(context, body()).add_done_callback(ended)

    # --- operations ------------------------------------------------------------

    def _start(self, worker: int, item: Item) -> Item | None:
        _, number, key, child_id, kind_name, arguments, native_context = item
        kind = self.kinds.by_name.get(kind_name)
        if kind is None:
            message = f"kind {kind_name!r} is not registered here"
            return self.native.fail_and_next(worker, number, message, None, None)
        chain = (child_id,)
        current.set((self, worker, chain))
        try:
            child = kind.make()
            context = Context(self, key, child_id, native_context, kind, child)
            self._instances[key] = context
            if kind.codec is not None:
                arguments = kind.decode(arguments)
            if "start" in kind.asynchronous:
                given = (context, arguments)
                self._post(context, number, chain, _no_value, child.start, given)
                return None
            child.start(context, arguments)
        except BaseException as error:
            self._forget(key)
            return self.native.fail_and_next(worker, number, *describe(error))
        return self.native.done_and_next(worker, number)

    def _run(self, worker: int, item: Item) -> Item | None:
        _, number, key = item
        context = self._instances.get(key)
        if context is None:
            return self._unknown(worker, number)
        context._cancel = threading.Event()
        if "run" in context._kind.asynchronous:
            self._run_on_loop(number, context)
            return None
        threading.Thread(
            target=self._run_on_thread,
            args=(number, context, context._child.run),
            name=f"process-hub-run-{context.child_id}",
            daemon=True,
        ).start()
        return None

    def _run_on_thread(
        self, number: int, context: Context, run: Callable[[Context], Any]
    ) -> None:
        current.set((self, None, ()))
        try:
            run(context)
        except BaseException as error:
            self.native.fail(number, *describe(error))
        else:
            self.native.done(number)

    def _run_on_loop(self, number: int, context: Context) -> None:
        run, cancelled = context._child.run, context._cancel

        async def body() -> None:
            current.set((self, None, ()))
            try:
                await run(context)
            except asyncio.CancelledError:
                if cancelled is None or not cancelled.is_set():
                    self.native.fail(number, "run was cancelled", None, None)
                    return
            except BaseException as error:
                self.native.fail(number, *describe(error))
                return
            self.native.done(number)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # before its first step, so that `body` never ran
                self.native.done(number)

        def begin() -> None:
            _begin_task(context, body(), name="run").add_done_callback(ended)

        if not self.loop.post(begin):
            self.native.fail(number, "the event loop is closed", None, None)

    def _cancel_run(self, worker: int, item: Item) -> Item:
        _, number, key = item
        context = self._instances.get(key)
        if context is not None:
            _cancel_run(context)
            if "run" in context._kind.asynchronous:
                self.loop.post(_cancel_tasks, context, "run")
        return self.native.done_and_next(worker, number)

    def _handle(self, worker: int, item: Item) -> Item | None:
        message, chain = item[3:]
        return self._call(worker, item, "handle", message, answer=_reply, chain=chain)

    def _prepare_state(self, worker: int, item: Item) -> Item | None:
        return self._call(worker, item, "prepare_handover_state", answer=_state)

    def _alter_state(self, worker: int, item: Item) -> Item | None:
        return self._call(worker, item, "alter_handover_state", item[3])

    def _resolve_conflict(self, worker: int, item: Item) -> Item | None:
        return self._call(worker, item, "resolve_conflict", item[3])

    def _redundancy_signal(self, worker: int, item: Item) -> Item | None:
        mode = _MODES[item[3]]
        context = self._instances.get(item[2])
        if context is not None:
            context._native.is_active = mode is Mode.ACTIVE
        return self._call(worker, item, "redundancy_signal", mode)

    def _handover_start(self, worker: int, item: Item) -> Item | None:
        node, epoch, error = item[3:]
        target = HandoverTarget(node=node, epoch=epoch, error=error)
        return self._call(worker, item, "handover_start", target)

    def _set_role(self, worker: int, item: Item) -> Item:
        context = self._instances.get(item[2])
        if context is not None:
            context._native.epoch = item[3]
            context._native.is_active = _MODES[item[4]] is Mode.ACTIVE
        return self.native.done_and_next(worker, item[1])

    def _stop(self, worker: int, item: Item) -> Item | None:
        return self._call(worker, item, "stop", _STOP_REASONS[item[3]], is_last=True)

    def _discard(self, worker: int, item: Item) -> Item:
        context = self._forget(item[2])
        if context is not None:
            _cancel_run(context)
            if context._tasks:
                self.loop.post(_cancel_tasks, context, None)
        return self.native.done_and_next(worker, item[1])

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

    def _decide(self, worker: int, item: Item) -> Item | None:
        _, number, family, name, question, seconds = item
        current.set((self, worker, ()))
        try:
            answer = self.strategies[family, name](question)
        except BaseException as error:
            return self.native.fail_and_next(worker, number, *describe(error))
        if not inspect.isawaitable(answer):
            return self.native.complete_and_next(worker, number, answer)
        if not self.loop.post(self._await_decision, number, answer, seconds):
            if inspect.iscoroutine(answer):
                answer.close()
            self.native.fail(number, "the event loop is closed", None, None)
        return None

    def _await_decision(
        self, number: int, answer: Awaitable[Any], seconds: float
    ) -> None:
        async def body() -> None:
            try:
                answered = await asyncio.wait_for(answer, seconds)
                self.native.complete(number, answered)
            except BaseException as error:
                self.native.fail(number, *describe(error))

        task = asyncio.get_running_loop().create_task(body())
        self._decisions.add(task)
        task.add_done_callback(self._decisions.discard)

    def _completed(self, worker: int, item: Item) -> None:
        current.set((self, worker, ()))
        self.on_completed(*item[1:])

    def _add_thread(self, worker: int, item: Item) -> None:
        self.add_worker()

    def _nothing(self, worker: int, item: Item) -> None:
        """Ask again."""

    def _forget(self, key: int) -> Context | None:
        context = self._instances.pop(key, None)
        if context is not None:
            # Or a child that keeps its context would keep itself.
            del context._child
        return context

    def _unknown(self, worker: int, number: int) -> Item:
        message = "no such instance here"
        return self.native.fail_and_next(worker, number, message, None, None)


def _ignore(request: int, error: HubError | None, value: Any) -> None:
    """Take no note of a completion."""


def _begin_task(
    context: Context, body: Coroutine[Any, Any, None], name: str | None = None
) -> asyncio.Task[None]:
    """Run a coroutine of an instance on the present loop."""
    task = asyncio.get_running_loop().create_task(body, name=name)
    if context._tasks is None:
        context._tasks = set()
    context._tasks.add(task)
    task.add_done_callback(context._tasks.discard)
    return task


def _cancel_tasks(context: Context, name: str | None) -> None:
    for task in tuple(context._tasks or ()):
        if name is None or task.get_name() == name:
            task.cancel()


def _cancel_run(context: Context) -> None:
    if context._cancel is not None:
        context._cancel.set()


def handler_table(
    handlers: Mapping[str, Any],
) -> list[tuple[str, Callable[..., Any]]]:
    """Flatten ``hooks={name: handler or list of handlers}``."""
    table: list[tuple[str, Callable[..., Any]]] = []
    for name, given in handlers.items():
        several: list[Any] = given if isinstance(given, list) else [given]
        table.extend((name, handler) for handler in several)
    return table
