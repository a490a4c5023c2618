"""A server for the console's own scripts: no registry and no engine, and it fails on purpose."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from playwright.sync_api import Page

from engine.console.router import create_console_router


class Scripted:
    """A server that breaks streams off and refuses in every shape that clients meet."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.include_router(create_console_router())
        self.asked: list[dict[str, str]] = []
        self.streams = ["id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\nda", "id: 3\ndata: c\n\n"]
        self.answers: list[tuple[str, dict[str, str]]] = []  # body and headers of completions
        self._add_routes()

    def _add_routes(self) -> None:
        app = self.app

        @app.get("/blank")
        async def blank() -> HTMLResponse:
            return HTMLResponse('<!doctype html><link rel="icon" href="data:,"><body></body>')

        @app.get("/stream")
        async def stream(request: Request) -> Response:
            self.asked.append(dict(request.headers))
            return StreamingResponse(self._next_stream(), media_type="text/event-stream")

        @app.get("/v1/models")
        async def models() -> dict[str, list[Any]]:
            return {"data": []}

        @app.post("/v1/completions")
        async def complete() -> Response:
            body, headers = self.answers.pop(0)
            return Response(body, headers=headers, media_type="text/event-stream")

        @app.get("/api/v1/whoami")
        async def whoami() -> dict[str, Any]:
            nobody = {"name": "anonymous", "prefix": None, "tenant": None, "expires_at": None}
            return {**nobody, "scopes": ["admin"]}

        @app.get("/refuse/{shape}")
        async def refuse(shape: str) -> Response:
            return REFUSALS[shape][0]

    async def _next_stream(self) -> AsyncIterator[str]:
        yield "retry: 20\n\n"
        if self.streams:
            yield self.streams.pop(0)
            return
        await asyncio.sleep(60)


OPENAI = {"error": {"message": "no slot", "type": "X", "param": None, "code": "slot_wait_timeout"}}
REFUSALS: dict[str, tuple[Response, list[Any]]] = {
    "ours": (
        JSONResponse({"detail": "it is pinned", "code": "adapter_pinned"}, 409),
        [409, "adapter_pinned", "it is pinned", None],
    ),
    "openai": (
        JSONResponse(OPENAI, 503, headers={"retry-after": "3"}),
        [503, "slot_wait_timeout", "no slot", 3],
    ),
    "key": (JSONResponse({"error": "Unauthorized"}, 401), [401, "http_401", "Unauthorized", None]),
    "proxy": (PlainTextResponse("oh", 502), [502, "http_502", "Bad Gateway", None]),
}


@contextmanager
def scripted_server() -> Iterator[tuple[str, Scripted]]:
    """Its URL, and the requests to it."""
    served = Scripted()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(served.app, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", served
        finally:
            server.should_exit = True
            thread.join()


def run(page: Page, module: str, code: str, given: Any = None) -> Any:
    """What `code` returns; it has the console's module as `m` and the value as `given`."""
    found = f"const {{ {module}: m }} = await import('/console/modules.js');"
    program = f"async given => {{ {found} {code} }}"
    return page.evaluate(program, given)
