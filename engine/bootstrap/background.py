"""Background work of a server: tasks, which stop it if one of them ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

logger = logging.getLogger(__name__)


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
