"""OpenAI errors: the format that OpenAI clients read, with a stable code for programs."""

import json
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import Send

from engine.errors import EngineError
from registry.redaction import redact


def openai_error(
    status: int, code: str, message: str, *, param: str | None = None
) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`, as the OpenAI API and vLLM write it."""
    kind = HTTPStatus(status).phrase.replace(" ", "") + "Error"
    return {"error": {"message": redact(message), "type": kind, "param": param, "code": code}}


async def send_engine_error(
    send: Send, error: EngineError, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send it as the whole response, with `Retry-After` if that is known."""
    more = [*headers, *retry_after_header(error.retry_after_seconds)]
    content = openai_error(error.status, error.code, error.detail)
    await send_json(send, error.status, content, more)


def error_event(error: EngineError) -> bytes:
    """The last event before `[DONE]` in an OpenAI stream that fails."""
    return f"data: {json.dumps(openai_error(error.status, error.code, error.detail))}\n\n".encode()


def retry_after_header(seconds: int | None) -> list[tuple[bytes, bytes]]:
    """`Retry-After`; empty if `seconds` is unknown."""
    return [] if seconds is None else [(b"retry-after", str(seconds).encode())]


async def send_json(
    send: Send, status: int, content: object, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send one whole JSON response."""
    body = json.dumps(content).encode()
    start_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start_headers})
    await send({"type": "http.response.body", "body": body})
