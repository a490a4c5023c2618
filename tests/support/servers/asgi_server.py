"""A real HTTP server around an application, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import APIRouter, FastAPI

GRACEFUL_SECONDS = 3


def take_in(app: FastAPI, *routers: APIRouter) -> None:
    """As `include_router` does, which makes each route once more, and can't do it of lazy ones."""
    for router in routers:
        app.router.routes.extend(router.routes)


@asynccontextmanager
async def serving(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """The server's URL. `app.state.server` is the server, as in vLLM's application."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        log_level="error",
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = app.state.server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
