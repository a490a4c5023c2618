"""Request body: read whole before the application runs, within limits."""

from starlette.types import Receive

from registry.errors import BodyTooLarge
from registry.http.json_shape import MAX_VALUES, check_json


async def read_body(
    receive: Receive, limit_bytes: int, *, is_text: bool = True, max_values: int = MAX_VALUES
) -> bytes | None:
    """The whole body, or None if the client disconnected first.

    Raises BodyTooLarge and what `receive` raises; for text also what `check_json` raises.
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
            if is_text:
                await check_json(body, max_values)
            return body
