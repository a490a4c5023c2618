"""Reads a request body ahead of the application."""

import json
import secrets

from starlette.types import Receive, Scope

from registry.errors import BodyNotText, BodyTooDeep, BodyTooLarge
from registry.http.body_limit import MAX_LEVELS, is_too_deep

USER_HEADER = b"x-adaptry-user"


async def read_body(receive: Receive, limit_bytes: int, *, is_text: bool = True) -> bytes | None:
    """The whole body, or None if the client left first.

    Raises BodyTooLarge, what `receive` raises, and if it should be text BodyTooDeep, BodyNotText.
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
            return _checked(body) if is_text else body


def _checked(body: bytes) -> bytes:
    if is_too_deep(body):
        raise BodyTooDeep(MAX_LEVELS)
    try:
        body.decode()
    except UnicodeDecodeError:  # vLLM's answer would not be of OpenAI's shape
        raise BodyNotText from None
    return body


def model_of(body: bytes) -> str | None:
    """The `model` that a JSON body names. None if there is none: vLLM says what is wrong."""
    return _text_of(body, "model")


def user_of(scope: Scope, body: bytes) -> str:
    """Who asks: the header, for gateways, over OpenAI's `user`. Somebody else each time without."""
    header = dict(scope["headers"]).get(USER_HEADER, b"").decode("latin-1")
    return header or _text_of(body, "user") or secrets.token_hex(8)


def _text_of(body: bytes, field: str) -> str | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = content.get(field) if isinstance(content, dict) else None
    return value if isinstance(value, str) and value else None
