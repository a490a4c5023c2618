"""Request body: read whole before the application runs, within limits."""

from starlette.types import Receive

from registry.errors import BodyNotText, BodyTooDeep, BodyTooLarge
from registry.http.body_limit import MAX_LEVELS, is_too_deep


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
