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


class Hooks:
    """The handlers of one hub: higher priority first, then in order of registration."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[_Entry, ...]] = {}
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
        if not callable(handler):
            message = f"the handler of {hook} must be callable, not {handler!r}"
            raise InvalidArgumentError(message, operation="on")
        with self._lock:
            entry = _Entry(id or f"handler-{next(self._numbers)}", priority, handler)
            others = [
                other for other in self._entries.get(hook, ()) if other.id != entry.id
            ]
            self._entries[hook] = tuple(
                sorted([*others, entry], key=lambda entry: -entry.priority)
            )
        self._subscribe()
        return entry.id

    def remove(self, hook: str, id: str) -> bool:
        """Remove a handler; says whether there was one."""
        with self._lock:
            before = self._entries.get(hook, ())
            self._entries[hook] = tuple(entry for entry in before if entry.id != id)
            found = len(before) != len(self._entries[hook])
        if found:
            self._subscribe()
        return found

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
        for entry in self._entries.get(INTERCEPTOR_HOOK, ()):
            spec = entry.handler(spec, nodes) or spec
        return json.dumps(spec.to_json())

    def _subscribe(self) -> None:
        if self._native is None:
            return
        names = [name for name, entries in self._entries.items() if entries]
        self._native.subscribe_hooks(names)
        with self._lock:
            if self._thread is None and set(names) - {INTERCEPTOR_HOOK}:
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
