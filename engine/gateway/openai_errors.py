"""OpenAI errors: the format that OpenAI clients read, with a stable code for programs.

On the routes of Anthropic's and TGI's clients it is theirs.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import Send

from engine.errors import EngineError
from registry.errors import RegistryError
from registry.http.dialects import anthropic_error, is_anthropic, is_tgi, tgi_error
from registry.redaction import redact

ERROR_EVENTS = (b'data: {"error"', b"event: error")
"""How vLLM ends a stream that fails, in OpenAI's and Anthropic's format."""

_INTERNAL_TYPES = ("internal_error", "api_error")


def openai_error(
    status: int, code: str, message: str, *, param: str | None = None, kind: str | None = None
) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`, as the OpenAI API and vLLM write it.

    `kind`: the error's type, where it does not follow from the status.
    """
    kind = kind or HTTPStatus(status).phrase.replace(" ", "") + "Error"
    return {"error": {"message": redact(message), "type": kind, "param": param, "code": code}}


def error_content(
    path: str, status: int, code: str, message: str, *, param: str | None = None
) -> dict[str, object]:
    """The error as the clients of a route of vLLM's read it."""
    if is_anthropic(path):
        return anthropic_error(status, code, message)
    if is_tgi(path):
        return tgi_error(status, code, message)
    return openai_error(status, code, message, param=param)


async def send_refusal(
    send: Send,
    error: EngineError | RegistryError,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    path: str,
    param: str | None = None,
) -> None:
    """Send it as the whole response, with `Retry-After` if that is known."""
    more = [*headers, *retry_after_header(error.retry_after_seconds)]
    content = error_content(path, error.status, error.code, error.detail, param=param)
    await send_json(send, error.status, content, more)


def error_event(error: EngineError | RegistryError, path: str) -> bytes:
    """The event that ends a stream that fails, in OpenAI's before `[DONE]`."""
    data = json.dumps(error_content(path, error.status, error.code, error.detail))
    named = "event: error\n" if is_anthropic(path) else ""
    return f"{named}data: {data}\n\n".encode()


def status_of_event(event: bytes) -> int | None:
    """Of one of `ERROR_EVENTS`; None if it can't be read."""
    _, _, data = event.partition(b"data: ")
    try:
        error = json.loads(data.partition(b"\n\n")[0])["error"]
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    if error.get("type") in _INTERNAL_TYPES:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return code if isinstance(code, int) else HTTPStatus.BAD_GATEWAY


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
