"""Garbage collector: a request leaves no cycles, else its body stays in memory until it runs."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from engine.http.uvicorn_protocol import create_http_protocol
from engine.settings import EngineSettings
from registry.http.body_limit import BodyLimit, BodyLimitMiddleware
from registry.http.body_memory import BodyMemory

REQUESTS = 20
REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
RESPONSE = b"ok"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    scope["kept"] = await receive()
    length = (b"content-length", b"%d" % len(RESPONSE))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": RESPONSE})


@contextmanager
def collected() -> Iterator[list[str]]:
    """The types of what only the collector frees; it doesn't run before the end of the block."""
    types: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield types
        gc.collect()
        types += [type(each).__name__ for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def ask(port: int, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(REQUEST)
        assert (await reader.readuntil(RESPONSE)).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def test_a_request_with_a_body_leaves_nothing_for_the_collector() -> None:
    bounded = BodyLimitMiddleware(
        application,
        limit_of=lambda _: BodyLimit(100),
        timeout_seconds=5,
        memory=BodyMemory(1000),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    protocol = create_http_protocol(EngineSettings())
    server = uvicorn.Server(uvicorn.Config(bounded, http=protocol, log_level="error"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    port = listening.getsockname()[1]
    try:
        await ask(port, 1)
        with collected() as types:
            await ask(port, REQUESTS)
        # uvicorn's own cycle of the connection has the last request
        own = [name for name in types if name in {"RequestResponseCycle", "BoundedBody"}]
        assert len(own) <= 2, f"{len(types)} objects: {sorted(set(types))}"
    finally:
        server.should_exit = True
        await task
