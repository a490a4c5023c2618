"""Generate API middleware: bodies of TGI's and LoRAX's clients become those of `/v1/completions`.

Before the gateway, so that they are resolved, leased, limited and counted as all others are, once.
Our own `POST /generate`, whose body has a `prompt`, passes unchanged.
"""

import json
from collections.abc import Awaitable
from typing import Any

from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import EngineError, GenerationIncomplete, ParameterUnsupported
from engine.gateway.body_validation import first_error_validator
from engine.gateway.openai_errors import retry_after_header, send_json
from engine.gateway.request_body import UNPARSED, RequestBody, read_body
from engine.gateway.request_context import TRANSLATED
from engine.tgi.answer import StreamedAnswer, WholeAnswer, describe, read_error
from engine.tgi.completion_body import completion_body
from engine.tgi.schemas import GenerateBody
from engine.tgi.tokens import TokenTexts
from registry.errors import RegistryError
from registry.http.dialects import tgi_error
from registry.http.headers import is_event_stream, is_form
from registry.http.json_shape import MAX_VALUES
from registry.http.problems import route_path
from registry.validation import explain

COMPLETIONS = "/v1/completions"
COMPATIBLE, GENERATE, STREAM = "/", "/generate", "/generate_stream"
_PATHS = frozenset({COMPATIBLE, GENERATE, STREAM})
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"transfer-encoding"})
_NO_ANSWER = b"null"  # vLLM's to a client that has left
_VALIDATOR = first_error_validator(GenerateBody.__pydantic_core_schema__)


class GenerateApi:
    """`base_model`: of a body that names no adapter. `texts` None: alternatives are refused."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        base_model: str,
        max_body_bytes: int,
        max_body_values: int = MAX_VALUES,
        texts: TokenTexts | None = None,
    ) -> None:
        self._app = app
        self._base_model = base_model
        self._max_body_bytes = max_body_bytes
        self._max_body_values = max_body_values
        self._texts = texts

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        if is_post and route_path(scope) in _PATHS and not is_form(scope):
            return self._handle(scope, receive, send)
        return self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        try:
            content = await read_body(
                receive, self._max_body_bytes, max_values=self._max_body_values
            )
        except RegistryError as error:
            await _refuse(send, error)
            return
        if content is None:  # the client left
            return
        body = RequestBody(content)
        members = body.members
        if path == GENERATE and ("inputs" not in members or "prompt" in members):
            await self._app(scope, body.replay(receive), send)
            return
        try:
            asked = _read(body)
            streams = path == STREAM or (path == COMPATIBLE and bool(asked.stream))
            asked.options.check(streams=streams, has_texts=self._texts is not None)
            sent = completion_body(asked, self._base_model, streams=streams)
        except ParameterUnsupported as error:
            await _refuse(send, error)
            return
        except ValueError as error:  # pydantic's too
            await send_json(send, 422, tgi_error(422, "invalid_request", _explain(error)))
            return
        translated = RequestBody(_encode(sent))
        answer = _Answer(asked, send, self._texts, is_list=path == COMPATIBLE)
        inner = _inner_scope(scope, len(translated.content))
        await self._app(inner, translated.replay(receive), answer.send)


class _Answer:
    """The messages of the completion, translated. `is_list`: a whole answer is a list of one."""

    def __init__(
        self, asked: GenerateBody, send: Send, texts: TokenTexts | None, *, is_list: bool
    ) -> None:
        self._send = send
        self._whole = WholeAnswer(asked, texts)
        self._streamed = StreamedAnswer(asked)
        self._is_list = is_list
        self._head: Message = {}
        self._body = b""
        self._streams = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            self._streams = message["status"] < 400 and is_event_stream(message)
            if self._streams:
                await self._send(message)
        elif message["type"] == "http.response.body":
            await self._take(message.get("body", b""), ends=not message.get("more_body", False))

    async def _take(self, body: bytes, *, ends: bool) -> None:
        if self._streams:
            events = self._streamed.read(body) + (self._streamed.end() if ends else b"")
            if events or ends:
                await self._send(_body(events, more=not ends))
            return
        self._body += body
        if ends:
            await self._send_whole()

    async def _send_whole(self) -> None:
        if self._body == _NO_ANSWER:
            await self._send(self._head)
            await self._send(_body(self._body, more=False))
            return
        status, answer = self._translate(self._head["status"])
        body = _encode(answer)
        others = [pair for pair in self._head["headers"] if pair[0].lower() not in _OF_THE_BODY]
        await self._send(
            {**self._head, "status": status, "headers": [*others, *_headers_of(len(body))]}
        )
        await self._send(_body(body, more=False))

    def _translate(self, status: int) -> tuple[int, object]:
        if status >= 400:
            return status, read_error(status, self._body)
        try:
            found = self._whole.read(self._body)
        except GenerationIncomplete as error:
            return error.status, describe(error)
        return status, [found] if self._is_list else found


def _read(body: RequestBody) -> GenerateBody:
    """Raises ValueError."""
    if body.parsed is UNPARSED:
        raise ValueError("the body is no JSON")
    asked: GenerateBody = _VALIDATOR.validate_python(body.parsed)
    return asked


def _explain(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the body'} {explain(first)}"


async def _refuse(send: Send, error: EngineError | RegistryError) -> None:
    headers = retry_after_header(error.retry_after_seconds)
    await send_json(send, error.status, describe(error), headers)


def _inner_scope(scope: Scope, size: int) -> Scope:
    path = scope.get("root_path", "") + COMPLETIONS
    others = [pair for pair in scope["headers"] if pair[0] not in _OF_THE_BODY]
    headers = [*others, *_headers_of(size)]
    inner = {**scope, "path": path, "raw_path": path.encode(), "headers": headers}
    return {**inner, TRANSLATED: True}


def _headers_of(size: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]


def _encode(content: object) -> bytes:
    return json.dumps(content).encode()


def _body(content: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}
