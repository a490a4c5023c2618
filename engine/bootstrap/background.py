"""Background work of a server: tasks, which stop it if one of them ends, and threads' turns."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI

logger = logging.getLogger(__name__)

THREAD_TURN_SECONDS = 0.0005

_before: list[float] = []  # the interpreter's own turn, once for each server of this process


@contextmanager
def short_thread_turns() -> Iterator[None]:
    """A thread holds the interpreter only so long while the event loop wants it: tokens wait.

    Python's own turn is ten times as long, and registrations have many threads. Servers of one
    process share the interpreter: the last to stop gives it its own turn back.
    """
    _before.append(_before[0] if _before else sys.getswitchinterval())
    sys.setswitchinterval(min(_before[0], THREAD_TURN_SECONDS))
    try:
        yield
    finally:
        before = _before.pop()
        if not _before:
            sys.setswitchinterval(before)


@asynccontextmanager
async def run_in_background(
    app: FastAPI, work: Sequence[Coroutine[None, None, None]]
) -> AsyncIterator[None]:
    """Cancel all of `work` on the way out. None of it may end before: then the server stops."""

    ending = False

    def stop_server(task: asyncio.Task[None]) -> None:
        if ending:
            return
        error = None if task.cancelled() else task.exception()
        logger.critical("the server has to stop: %s", error or "its work has ended")
        if (server := getattr(app.state, "server", None)) is not None:
            server.should_exit = True

    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    for task in tasks:
        task.add_done_callback(stop_server)
    try:
        yield
    finally:
        ending = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_stopping(app: FastAPI) -> bool:
    """Whether the HTTP server is shutting down; vLLM's `serve_http` puts it into the state."""
    server = getattr(app.state, "server", None)
    return server is not None and bool(server.should_exit)
