"""Streams that this server ends: OpenAI's and Anthropic's own clients learn that they were cut.

vLLM's routes call such an answer complete: what they send after the cut is in `ENDS`.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import APIError as AnthropicError
from anthropic import AsyncAnthropic
from openai import APIError, AsyncOpenAI, AsyncStream
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import EnginePaused, EngineUnavailable
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.openai_errors import send_json
from engine.gateway.request_context import RequestContext, current_request
from engine.telemetry.spans import NullTracing
from engine.tgi.middleware import GenerateApi
from engine.types import CacheOutcome, Lease
from registry.quotas.limits import TenantLimits
from tests.support.cache.controller_harness import A
from tests.support.cache.request_tally import RequestTally
from tests.support.cache.resolvers import OneAdapter

RESPONSES, MESSAGES, SPEECH = "/v1/responses", "/v1/messages", "/v1/audio/transcriptions"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def plain(**members: Any) -> bytes:
    return f"data: {json.dumps(members)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
RESPONSE = {"id": "resp_1", "object": "response", "output": [], "metadata": {"of": "mine"}}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "a1"}
USAGE = {"input_tokens": 1, "output_tokens": 1}
ABORTED = {"index": 0, "finish_reason": "abort", "token_ids": [], "logprobs": {"tokens": []}}
STARTS = {
    RESPONSES: [
        named("response.created", sequence_number=0, response=RESPONSE),
        named("response.output_text.delta", sequence_number=7, delta='"sequence_number":9'),
    ],
    MESSAGES: [named("message_start", message={**MESSAGE, "usage": USAGE})],
    SPEECH: [plain(id="t", object="transcription.chunk", choices=[{"delta": {"content": "x"}}])],
    CHAT: [plain(id="c", object="chat.completion.chunk", choices=[{"index": 0, "delta": {}}])],
    COMPLETIONS: [plain(id="c", choices=[{"index": 0, "text": "x", "token_ids": []}])],
}
ENDS = {
    RESPONSES: [named("response.completed", sequence_number=8, response=RESPONSE)],
    MESSAGES: [
        named("message_delta", delta={"stop_reason": None}, usage=USAGE),
        named("message_stop"),
    ],
    SPEECH: [plain(id="t", choices=[{"delta": {}, "finish_reason": "abort"}]), DONE],
    CHAT: [plain(id="c", choices=[{"index": 0, "delta": {}, "finish_reason": "abort"}]), DONE],
    COMPLETIONS: [plain(id="c", choices=[{**ABORTED, "text": ""}]), DONE],
}


class Stage:
    """vLLM's route, cut in its middle, behind our gateway. `cut`: the outcome of the request."""

    def __init__(
        self,
        cut: str | None = "failed",
        why: EngineUnavailable | None = None,
        leased_after: int = 0,
    ) -> None:
        """`leased_after`: so many events."""
        self.cut, self.leased_after = cut, leased_after
        self.tally = RequestTally()
        gateway = AdapterGateway(
            self._route,
            resolver=OneAdapter(A),
            base_models=frozenset({"base"}),
            counter=self.tally,
            tracing=NullTracing(),
            unavailable=lambda: why,
            in_flight=RequestsInFlight(lambda: None, lambda _: TenantLimits()),
            own_prefix="/api/",
            max_body_bytes=10_000,
        )
        self.app: ASGIApp = GenerateApi(gateway, base_model="base", max_body_bytes=10_000)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = current_request(), scope["path"]
        assert request is not None
        streams = bool(json.loads((await receive())["body"]).get("stream", True))
        if not streams:
            self._admit(request)
            request.cut = self.cut
            await send_json(send, 200, {"choices": [ABORTED]})
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(STARTS[path]):
            if number == self.leased_after:
                self._admit(request)
            await send({"type": "http.response.body", "body": part, "more_body": True})
        request.cut = self.cut
        for part in ENDS[path]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _admit(self, request: RequestContext) -> None:
        request.on_leased(Lease(A, CacheOutcome.GPU_HIT, 0.0, 0.0))
        request.is_admitted = True

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            yield client

    async def events(self, path: str, **more: Any) -> list[bytes]:
        async with self.http() as client:
            answer = await client.post(path, json={"model": "a1", "stream": True, **more})
        assert answer.status_code == 200, answer.text
        return [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]


def of_openai(app: ASGIApp) -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    return AsyncOpenAI(base_url="http://front/v1", api_key="none", http_client=http, max_retries=0)


async def respond(app: ASGIApp) -> Any:
    return await of_openai(app).responses.create(model="a1", input="x", stream=True)


async def transcribe(app: ASGIApp) -> Any:
    """Its body as JSON: what is in a form is another test's."""
    return await of_openai(app).post(
        "/audio/transcriptions",
        cast_to=object,
        body={"model": "a1"},
        stream=True,
        stream_cls=AsyncStream[object],
    )


async def message(app: ASGIApp) -> Any:
    transport = httpx2.ASGITransport(app=app)
    client = AsyncAnthropic(
        base_url="http://front",
        api_key="none",
        http_client=httpx2.AsyncClient(transport=transport),
        max_retries=0,
    )
    messages: Any = [{"role": "user", "content": "x"}]
    return await client.messages.create(model="a1", max_tokens=9, messages=messages, stream=True)


@pytest.mark.parametrize(
    ("ask", "path"), [(respond, RESPONSES), (transcribe, SPEECH), (message, MESSAGES)]
)
async def test_its_clients_own_library_raises_the_code(
    ask: Callable[[ASGIApp], Any], path: str
) -> None:
    stage = Stage()
    read: list[Any] = []

    async def read_all() -> None:
        async for event in await ask(stage.app):
            read.append(event)

    with pytest.raises((APIError, AnthropicError)) as raised:
        await read_all()
    assert len(read) == len(STARTS[path]), "what came before the cut is the client's"
    body = vars(raised.value)["body"]
    assert body.get("error", body)["code"] == "adapter_forced_out"
    assert stage.tally.outcomes == ["failed"]


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES, SPEECH])
async def test_nothing_that_the_route_says_afterwards_is_sent(path: str) -> None:
    events = await Stage().events(path)
    told = events[len(STARTS[path]) :]
    assert events[: len(STARTS[path])] == STARTS[path]
    assert told[1:] == ([DONE] if path == SPEECH else [])
    assert told[0].startswith(b"event: error\n" if path != SPEECH else b"data: ")


async def test_the_error_of_a_response_is_as_openai_documents_it_and_numbered() -> None:
    last = (await Stage(why=EnginePaused()).events(RESPONSES))[-1]
    content = json.loads(last.removeprefix(b"event: error\ndata: "))
    assert {name: content[name] for name in ("type", "sequence_number", "code", "param")} == {
        "type": "error",
        "sequence_number": 8,
        "code": "engine_paused",
        "param": None,
    }
    assert content["message"] == content["error"]["message"] == EnginePaused().detail


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_that_says_abort_itself_stays_as_it_is(path: str) -> None:
    stage = Stage()
    assert await stage.events(path) == STARTS[path] + ENDS[path]
    assert stage.tally.outcomes == ["failed"]


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES, SPEECH])
async def test_a_stream_that_is_not_cut_stays_as_it_is(path: str) -> None:
    stage = Stage(cut=None)
    assert await stage.events(path) == STARTS[path] + ENDS[path]
    assert stage.tally.outcomes == ["completed"]


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES, SPEECH])
async def test_one_that_was_ended_by_its_id_says_so_too(path: str) -> None:
    stage = Stage(cut="cancelled")
    events = await stage.events(path)
    assert b'"generation_incomplete"' in b"".join(events[len(STARTS[path]) :])
    assert stage.tally.outcomes == ["cancelled"]


async def test_tgis_clients_read_the_code_in_their_own_words() -> None:
    stage = Stage()
    body = {"inputs": "x", "parameters": {"adapter_id": "a1"}}
    async with stage.http() as http:
        whole = await http.post("/generate", json=body)
        streamed = await http.post("/generate_stream", json=body)
    assert (whole.status_code, whole.json()["code"]) == (503, "adapter_forced_out")
    assert whole.headers["retry-after"] == "1"
    assert json.loads(streamed.text.removeprefix("data:"))["code"] == "adapter_forced_out"
    assert stage.tally.outcomes == ["failed", "failed"]


async def test_what_a_route_says_before_it_asks_the_engine_comes_first() -> None:
    """The start of the answer is sent with the lease, and those events were sent at its end."""
    stage = Stage(cut=None, leased_after=1)
    assert await stage.events(RESPONSES) == STARTS[RESPONSES] + ENDS[RESPONSES]
