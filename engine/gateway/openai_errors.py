"""OpenAI errors: the format that OpenAI clients read, with a stable code for programs.

On the routes of Anthropic's and TGI's clients it is theirs. Streams of `/v1/responses` have an
event of their own.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import Send

from engine.errors import EngineError
from registry.errors import RegistryError
from registry.http.dialects import (
    anthropic_error,
    is_anthropic,
    is_responses,
    is_tgi,
    tgi_error,
)
from registry.redaction import redact

ERROR_EVENTS = (b'data: {"error"', b"event: error")
"""How vLLM ends a stream that fails, in OpenAI's and Anthropic's format."""

_DATA = b"data: "
_DONE = b"data: [DONE]\n\n"
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


def error_event(error: EngineError | RegistryError, path: str, after: bytes = b"") -> bytes:
    """The event that ends a stream that fails, in OpenAI's before `[DONE]`.

    `after`: the events before it, of which the last one is numbered in `/v1/responses`.
    """
    content = error_content(path, error.status, error.code, error.detail)
    is_numbered = is_responses(path)
    if is_numbered:
        content = _response_error(error, content, _number_of_last(after) + 1)
    named = "event: error\n" if is_numbered or is_anthropic(path) else ""
    return f"{named}data: {json.dumps(content)}\n\n".encode()


def end_of_stream(error: EngineError | RegistryError, path: str, after: bytes = b"") -> bytes:
    """All that its client is yet sent."""
    is_named = is_responses(path) or is_anthropic(path)
    return error_event(error, path, after) + (b"" if is_named or is_tgi(path) else _DONE)


def _response_error(
    error: EngineError | RegistryError, content: dict[str, object], number: int
) -> dict[str, object]:
    """OpenAI documents the members side by side. It sends, and its client raises, an `error`."""
    told = {"type": "error", "sequence_number": number, "code": error.code}
    return {**told, "message": redact(error.detail), "param": None, **content}


def _number_of_last(events: bytes) -> int:
    """-1 if none of them has a number."""
    for line in reversed(events.splitlines()):
        try:
            number = json.loads(line.removeprefix(_DATA))["sequence_number"]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if isinstance(number, int):
            return number
    return -1


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
