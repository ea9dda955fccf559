"""The Python agent: one JSON object a line in, one a line out."""

import asyncio
import json
import logging
import sys
import threading
from typing import Any

import process_hub as ph

import lines
from commands import Agent, bad


def failure(error: BaseException) -> dict[str, Any]:
    """Return the document of an error."""
    if not isinstance(error, ph.HubError):
        error = ph.InternalError(f"{type(error).__name__}: {error}", operation="agent")
    keys = ("kind", "code", "operation", "message")
    facts = ("child_id", "node", "maybe_executed", "trace")
    return {key: getattr(error, key) for key in keys + facts}


async def answer(agent: Agent, line: bytes) -> None:
    """Carry out one request and write its reply."""
    number = None
    try:
        try:
            request = json.loads(line)
        except ValueError as error:
            raise bad(f"no JSON: {error}") from error
        if not isinstance(request, dict):
            raise bad(f"a request must be an object, not {request!r}")
        number = request.get("id")
        if request.get("cmd") == "exit":
            await agent.close()
            lines.write({"id": number, "ok": None})
            _ended.set()
            return
        lines.write({"id": number, "ok": await agent.perform(request)})
    except (TypeError, ValueError, KeyError) as error:
        # Python's own words for an argument of the wrong form.
        wrong = error if isinstance(error, ph.HubError) else bad(repr(error))
        lines.write({"id": number, "error": failure(wrong)})
    except Exception as error:
        lines.write({"id": number, "error": failure(error)})


def read(loop: asyncio.AbstractEventLoop, begin: Any) -> None:
    """Hand each line of stdin to the loop; None at its end."""
    # Not sys.stdin: the end of the interpreter would wait for its lock.
    with open(0, "rb", closefd=False) as stdin:
        for line in stdin:
            loop.call_soon_threadsafe(begin, line)
    loop.call_soon_threadsafe(begin, None)


_ended = asyncio.Event()


async def main() -> None:
    """Serve until told to exit."""
    agent = Agent()
    open_requests: set[asyncio.Task[None]] = set()

    def begin(line: bytes | None) -> None:
        if line is None:
            task = asyncio.create_task(close())
        elif line.strip():
            task = asyncio.create_task(answer(agent, line))
        else:
            return
        open_requests.add(task)
        task.add_done_callback(open_requests.discard)

    async def close() -> None:
        await agent.close()
        _ended.set()

    loop = asyncio.get_running_loop()
    threading.Thread(target=read, args=(loop, begin), daemon=True).start()
    await _ended.wait()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    asyncio.run(main())
