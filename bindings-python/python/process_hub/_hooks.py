"""Hooks: observers on one thread of their own, and the interceptors of specs."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from process_hub._loops import Loop
from process_hub._native import hook_names
from process_hub._spec import ChildSpec
from process_hub.errors import InvalidArgumentError

if TYPE_CHECKING:
    from process_hub._native import NativeHub

_LOGGER = logging.getLogger("process_hub")
INTERCEPTOR_HOOK = "child_data_alter"
_HOOKS = frozenset(hook_names())

Handler = Callable[[dict[str, Any]], Any]
Interceptor = Callable[[ChildSpec, list[str]], "ChildSpec | None"]


@dataclass(frozen=True)
class _Entry:
    id: str
    priority: int
    handler: Callable[..., Any]


_Entries = tuple[_Entry, ...]


def _placed(entries: _Entries, entry: _Entry) -> _Entries:
    others = _without(entries, entry.id)
    return tuple(sorted([*others, entry], key=lambda entry: -entry.priority))


def _without(entries: _Entries, id: str) -> _Entries:
    return tuple(entry for entry in entries if entry.id != id)


class Hooks:
    """The handlers of one hub: higher priority first, then in order of registration."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._entries: dict[str, _Entries] = {}
        self._interceptors: _Entries = ()
        self._native: NativeHub | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._numbers = iter(range(1, 1 << 62))

    def add(
        self,
        hook: str,
        handler: Callable[..., Any],
        id: str | None = None,
        priority: int = 0,
    ) -> str:
        """Add a handler; the same id for the same hook replaces."""
        if hook not in _HOOKS:
            message = f"there is no hook named {hook!r}"
            raise InvalidArgumentError(message, operation="on")
        entry = self._entry(hook, handler, id, priority)
        with self._lock:
            self._entries[hook] = _placed(self._entries.get(hook, ()), entry)
        self._subscribe()
        return entry.id

    def add_interceptor(
        self, handler: Interceptor, id: str | None = None, priority: int = 0
    ) -> str:
        """Add an interceptor of specs; the same id replaces."""
        entry = self._entry(INTERCEPTOR_HOOK, handler, id, priority)
        with self._lock:
            self._interceptors = _placed(self._interceptors, entry)
        self._subscribe()
        return entry.id

    def remove(self, hook: str, id: str) -> bool:
        """Remove a handler; says whether there was one."""
        with self._lock:
            before = self._entries.get(hook, ())
            self._entries[hook] = _without(before, id)
            found = len(before) != len(self._entries[hook])
            if hook == INTERCEPTOR_HOOK:
                count = len(self._interceptors)
                self._interceptors = _without(self._interceptors, id)
                found = found or count != len(self._interceptors)
        if found:
            self._subscribe()
        return found

    def _entry(
        self, hook: str, handler: object, id: str | None, priority: int
    ) -> _Entry:
        if not callable(handler):
            message = f"the handler of {hook} must be callable, not {handler!r}"
            raise InvalidArgumentError(message, operation="on")
        return _Entry(id or f"handler-{next(self._numbers)}", priority, handler)

    def begin(self, native: NativeHub) -> None:
        """Start to observe."""
        self._native = native
        self._subscribe()

    def close(self) -> None:
        """End the thread after the event it is at."""
        self._is_closed = True

    def join(self, timeout: float) -> None:
        """Wait for the thread, unless it is the one that asks."""
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(timeout)

    def intercept(self, document: str, nodes: list[str]) -> str:
        """Let the interceptors change a spec, given and returned as JSON."""
        spec = ChildSpec.from_json(json.loads(document))
        for entry in self._interceptors:
            spec = entry.handler(spec, nodes) or spec
        return json.dumps(spec.to_json())

    def _subscribe(self) -> None:
        if self._native is None:
            return
        observed = [name for name, entries in self._entries.items() if entries]
        intercepted = [INTERCEPTOR_HOOK] if self._interceptors else []
        self._native.subscribe_hooks([*observed, *intercepted])
        with self._lock:
            if self._thread is None and observed:
                self._thread = threading.Thread(
                    target=self._observe, name="process-hub-hooks", daemon=True
                )
                self._thread.start()

    def _observe(self) -> None:
        native = self._native
        while native is not None:
            event = native.next_hook(200)
            if event is None:
                if self._is_closed:
                    return
                continue
            name, payload = event
            for entry in self._entries.get(name, ()):
                self._tell(name, entry, payload)

    def _tell(self, name: str, entry: _Entry, payload: dict[str, Any]) -> None:
        try:
            if inspect.iscoroutinefunction(entry.handler):
                self._loop.post(_begin_task, entry.handler, payload)
            else:
                entry.handler(payload)
        except BaseException:
            _LOGGER.exception("handler %r of the hook %s failed", entry.id, name)


def _begin_task(handler: Callable[..., Any], payload: Mapping[str, Any]) -> None:
    task = asyncio.get_running_loop().create_task(handler(payload))
    _TASKS.add(task)
    task.add_done_callback(_ended)


_TASKS: set[Any] = set()


def _ended(task: Any) -> None:
    _TASKS.discard(task)
    if not task.cancelled() and task.exception() is not None:
        _LOGGER.error("a handler of a hook failed", exc_info=task.exception())
