"""Request body: read whole before the application runs, within limits, and parsed at most once.

One that this server has made for itself is handed on with what it was made of.
"""

import json
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import msgspec
from starlette.types import Message, Receive, Scope

from registry.errors import BodyTooLarge
from registry.http.json_shape import MAX_VALUES, check_json

UNPARSED: Final = object()
"""In place of the content of a body that is no JSON, or none that we parse."""

_MAX_SLOW_PARSE_BYTES = 2**20
_IN_SCOPE = "adaptry.body"
_DECODER = msgspec.json.Decoder()


class RequestBody:
    """The bytes of a body, and what they are as JSON. `has_parts`: it is a form."""

    __slots__ = ("_parsed", "content", "has_parts", "is_read")

    def __init__(
        self, content: bytes, *, has_parts: bool = False, parsed: Mapping[str, Any] | None = None
    ) -> None:
        """`parsed`: what the content was made of."""
        self.content = content
        self.has_parts = has_parts
        self.is_read = False  # by a route
        self._parsed: Any = parsed if content and not has_parts else UNPARSED

    @property
    def parsed(self) -> Any:
        """As Python's parser reads it, which vLLM's routes use; or `UNPARSED`."""
        if self._parsed is None:
            self._parsed = _parse(self.content)
        return self._parsed

    @property
    def members(self) -> Mapping[str, Any]:
        """Of a JSON object; none of any other body."""
        parsed = self.parsed
        return parsed if isinstance(parsed, dict) else _NO_MEMBERS

    def with_model(self, model: str) -> "RequestBody":
        """Another JSON object, which has this `model`."""
        return RequestBody(json.dumps({**self.members, "model": model}).encode())

    def replay(self, receive: Receive) -> Receive:
        """A `receive` that returns it, unless it was read here, then the server's next messages."""

        def receive_once() -> Awaitable[Message]:
            if self.is_read:
                return receive()
            self.is_read = True
            return _whole_body(self.content)

        return receive_once


async def _whole_body(content: bytes) -> Message:
    return {"type": "http.request", "body": content, "more_body": False}


_NO_MEMBERS: Mapping[str, Any] = {}


def _parse(content: bytes) -> Any:
    """msgspec's parser is faster, takes less than Python's, and reads the same in what it takes."""
    try:
        return _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    if len(content) > _MAX_SLOW_PARSE_BYTES:
        return UNPARSED
    try:
        return json.loads(content)  # NaN and Infinity, for example
    except (ValueError, RecursionError):
        return UNPARSED


def hand_on_body(scope: Scope, body: RequestBody) -> None:
    """To the application that handles the request after us."""
    scope[_IN_SCOPE] = body


def find_body(scope: Scope) -> RequestBody | None:
    """The body that the gateway has read."""
    found: RequestBody | None = scope.get(_IN_SCOPE)
    return found


async def read_body(
    receive: Receive,
    limit_bytes: int,
    *,
    is_text: bool = True,
    max_values: int = MAX_VALUES,
    checked: bytes | None = None,
) -> bytes | None:
    """The whole body, or None if the client disconnected first.

    `checked`: what needs no check, if it is that. Raises BodyTooLarge and what `receive` raises;
    for text also what `check_json` raises.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            body = b"".join(chunks)
            if is_text and body != checked:
                await check_json(body, max_values)
            return body
