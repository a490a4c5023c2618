"""Parsed request: what the gateway has read and parsed of a body, for the routes after it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute, request_response

from engine.gateway.request_body import UNPARSED, find_body

Handler = Callable[[Request], Awaitable[Response]]


class ParsedRequest(Request):
    """Starlette's, without reading and parsing the body again."""

    async def body(self) -> bytes:
        body = find_body(self.scope)
        if body is None:
            return await super().body()
        body.is_read = True
        return body.content

    async def stream(self) -> AsyncGenerator[bytes, None]:
        body = find_body(self.scope)
        if body is None:
            async for chunk in super().stream():
                yield chunk
            return
        body.is_read = True
        yield body.content
        yield b""

    async def json(self) -> Any:
        """Raises what Python's parser raises, of a body that was not parsed."""
        body = find_body(self.scope)
        if body is None or body.parsed is UNPARSED:
            return await super().json()
        return body.parsed


def parse_bodies_once(routes: Iterable[Any]) -> None:
    """Let them read what the gateway has parsed, the way that FastAPI's custom requests do it."""
    for route in routes:
        if isinstance(route, APIRoute) and route.methods and "POST" in route.methods:
            route.app = request_response(_with_parsed_body(route.get_route_handler()))


def _with_parsed_body(handle: Handler) -> Handler:
    async def handle_parsed(request: Request) -> Response:
        return await handle(ParsedRequest(request.scope, request.receive))

    return handle_parsed
