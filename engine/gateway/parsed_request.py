"""Parsed request: what the gateway has read and parsed of a body, for the routes after it.

vLLM's validators look into members before anything has checked what they are (0.32): a list in
place of an object ends as an AttributeError. What they fail at is the body's fault.
"""

import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, request_response
from pydantic import TypeAdapter

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
        parsed = UNPARSED if body is None else body.parsed
        return await super().json() if parsed is UNPARSED else parsed


_UNREADABLE = {
    "type": "value_error",
    "loc": ("body",),
    "msg": "a member is of a type that it can't have",
    "input": None,
}


def parse_bodies_once(routes: Iterable[Any]) -> None:
    """Let them read what the gateway has parsed, the way that FastAPI's custom requests do it."""
    for route in routes:
        if isinstance(route, APIRoute) and route.methods and "POST" in route.methods:
            route.app = request_response(_with_parsed_body(route.get_route_handler()))


def _with_parsed_body(handle: Handler) -> Handler:
    async def handle_parsed(request: Request) -> Response:
        try:
            return await handle(ParsedRequest(request.scope, request.receive))
        except (AttributeError, TypeError, LookupError) as error:
            if not _was_validating(error):
                raise
            raise RequestValidationError([_UNREADABLE]) from None

    return handle_parsed


def _was_validating(error: Exception) -> bool:
    """Whether a validator of a body raised it, and not the route's own code."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is TypeAdapter.validate_python.__code__ for frame, _ in frames)
