"""Request body: read before the application runs, for its `model` and `user`."""

import json
import secrets

from starlette.types import Receive, Scope

from registry.errors import BodyNotText, BodyTooDeep, BodyTooLarge
from registry.http.body_limit import MAX_LEVELS, is_too_deep

USER_HEADER = b"x-adaptry-user"


async def read_body(receive: Receive, limit_bytes: int, *, is_text: bool = True) -> bytes | None:
    """The whole body, or None if the client disconnected first.

    Raises BodyTooLarge and what `receive` raises; for text also BodyTooDeep and BodyNotText.
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
            return _check_text(body) if is_text else body


def _check_text(body: bytes) -> bytes:
    if is_too_deep(body):
        raise BodyTooDeep(MAX_LEVELS)
    try:
        body.decode()
    except UnicodeDecodeError:  # vLLM's error would not have OpenAI's format
        raise BodyNotText from None
    return body


def model_of(body: bytes) -> str | None:
    """The `model` of a JSON body. None if there is none: vLLM reports the error."""
    return _text_of(body, "model")


def user_of(scope: Scope, body: bytes) -> str:
    """The end user: the header, set by proxies, or OpenAI's `user`, or else a new random one."""
    header = dict(scope["headers"]).get(USER_HEADER, b"").decode("latin-1")
    return header or _text_of(body, "user") or secrets.token_hex(8)


def _text_of(body: bytes, field: str) -> str | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = content.get(field) if isinstance(content, dict) else None
    return value if isinstance(value, str) and value else None
