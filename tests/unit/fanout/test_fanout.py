"""Fan-out: one prompt past several models, through routes that say what they were asked."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from engine.fanout.router import _FanOut, create_fanout_router
from engine.fanout.schemas import FanoutRequest
from engine.gateway.request_context import RequestContext
from engine.vllm.error_handlers import handle_errors
from tests.support.running_requests import request_scope

SECRET = "said by nobody"


@dataclass
class Engine:
    """Answers as vLLM's routes do. `together`: answers wait until so many were asked."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    together: int = 0
    running: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    both: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append({"path": request.url.path, **body})
        self.headers.append(dict(request.headers))
        model = body["model"]
        if model == "broken":
            raise RuntimeError(SECRET)
        if (status := self.refused.get(model)) is not None:
            error = {"message": f"{model} is refused", "code": "refused"}
            return JSONResponse({"error": error}, status)
        if body["max_tokens"] > 1:
            await self._wait(model)
        headers = {} if model == "base" else {"x-adaptry-version": f"{model}:1"}
        if body.get("stream"):
            return StreamingResponse(
                self._events(model), media_type="text/event-stream", headers=headers
            )
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 8},
        }
        content = {"choices": [{"text": f"by {model}"}], "usage": usage}
        return JSONResponse(content, headers=headers)

    async def _wait(self, model: str) -> None:
        self.running += 1
        if self.running == 2:
            self.both.set()
        if self.running >= self.together:
            self.enough.set()
        try:
            await self.enough.wait()
        except asyncio.CancelledError:
            self.cancelled.append(model)
            if len(self.cancelled) == 2:
                self.ended.set()
            raise

    async def _events(self, model: str) -> AsyncIterator[bytes]:
        for number in range(2):
            yield b": keep-alive\n\n"
            yield f'data: {{"choices": [{{"text": "{model} {number}"}}]}}\n\n'.encode()
            if model == "breaking":
                raise RuntimeError(SECRET)
        if model == "guard":
            yield b'data: {"error": {"message": "it ended", "code": "engine_unavailable"}}\n\n'
        yield b"data: [DONE]\n\n"


@pytest.fixture
def engine() -> Engine:
    return Engine()


def application(engine: Engine) -> FastAPI:
    async def answer(raw_request: Request) -> Response:
        return await engine.answer(raw_request)

    app = FastAPI()
    handle_errors(app)
    app.include_router(create_fanout_router())
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.add_api_route(path, with_cancellation(answer), methods=["POST"], response_model=None)
    return app


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as found:
        yield found


async def fan_out(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/fanout", json={"max_tokens": 4, **body})


async def test_each_model_answers_under_its_name_with_its_own_end_and_options(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    engine.together = 4
    judge = {"model": "judge", "suffix": " judge:", "max_tokens": 9}
    again = {"model": "judge", "suffix": " again:", "name": "second", "stop": ["x"]}
    response = await fan_out(client, prompt="said", models=[judge, again, "base", "plain"])
    assert response.status_code == 200
    answers = response.json()["answers"]
    assert list(answers) == ["judge", "second", "base", "plain"]
    assert answers["second"]["answer"]["choices"][0]["text"] == "by judge"
    assert (answers["judge"]["version"], answers["base"]["version"]) == ("judge:1", None)
    assert response.json()["usage"] == {
        "prompt_tokens": 40,
        "completion_tokens": 8,
        "total_tokens": 48,
        "cached_tokens": 32,
    }
    ends = {(each["prompt"], each["max_tokens"], str(each.get("stop"))) for each in engine.asked}
    assert ends == {
        ("said judge:", 9, "None"),
        ("said again:", 4, "['x']"),
        ("said", 4, "None"),
    }


async def test_a_model_that_fails_fails_alone(client: httpx.AsyncClient, engine: Engine) -> None:
    engine.refused = {"guard": 503}
    response = await fan_out(client, prompt="said", models=["judge", "guard"])
    assert response.status_code == 200
    answers = response.json()["answers"]
    assert answers["judge"]["answer"]["choices"][0]["text"] == "by judge"
    assert (answers["guard"]["status"], answers["guard"]["answer"]) == (503, None)
    assert answers["guard"]["error"]["code"] == "refused"


async def test_what_all_refuse_is_refused(client: httpx.AsyncClient, engine: Engine) -> None:
    """A stream has begun before they do."""
    engine.refused = {"judge": 400, "guard": 400}
    asked = {"prompt": "said", "models": ["judge", "guard"]}
    response = await fan_out(client, **asked)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "refused")
    assert len(engine.asked) == 2
    response = await fan_out(client, **asked, stream=True)
    assert (response.status_code, response.text.count('"status": 400')) == (200, 2)
    engine.refused = {"judge": 400, "guard": 429}
    response = await fan_out(client, **asked)
    assert response.status_code == 200
    assert {each["status"] for each in response.json()["answers"].values()} == {400, 429}


async def test_a_conversation_has_its_own_route_and_ends(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    said, asked = {"role": "user", "content": "hi"}, {"role": "user", "content": "judge"}
    models = [{"model": "judge", "messages": [asked]}, "guard"]
    await fan_out(client, messages=[said], models=models)
    assert {each["path"] for each in engine.asked} == {"/v1/chat/completions"}
    assert sorted(len(each["messages"]) for each in engine.asked) == [1, 2]


async def test_a_stream_names_the_model_of_each_event(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    models = ["judge", "guard", "unknown"]
    engine.refused = {"unknown": 404}
    response = await fan_out(client, prompt="said", models=models, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, last = [part.removeprefix("data: ") for part in response.text.strip().split("\n\n")]
    assert last == "[DONE]"
    by_name: dict[str, list[dict[str, Any]]] = {}
    for event in map(json.loads, events):
        by_name.setdefault(event.pop("name"), []).append(event)
    head, *chunks = by_name["judge"]
    assert (head["status"], head["version"]) == (200, "judge:1")
    texts = [each["chunk"]["choices"][0]["text"] for each in chunks]
    assert texts == ["judge 0", "judge 1"]
    assert by_name["guard"][-1]["error"]["code"] == "engine_unavailable"
    assert [(each["status"], each["error"]["code"]) for each in by_name["unknown"]] == [
        (404, "refused")
    ]


async def test_an_unexpected_error_of_one_model_is_that_models_alone(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await fan_out(client, prompt="said", models=["broken", "judge"])
    answers = response.json()["answers"]
    assert (response.status_code, answers["broken"]["status"]) == (200, 500)
    assert answers["judge"]["answer"]["choices"][0]["text"] == "by judge"
    told = [answers["broken"]["error"]]
    models = ["broken", "judge", "breaking"]
    response = await fan_out(client, prompt="said", models=models, stream=True)
    *events, last = [part.removeprefix("data: ") for part in response.text.strip().split("\n\n")]
    assert last == "[DONE]"
    parsed = list(map(json.loads, events))
    told += [each["error"] for each in parsed if "error" in each]
    assert [each["name"] for each in parsed if "error" in each] == ["broken", "breaking"]
    texts = [each["chunk"]["choices"][0]["text"] for each in parsed if "chunk" in each]
    assert sorted(texts) == ["breaking 0", "judge 0", "judge 1"]
    assert {each["code"] for each in told} == {"internal_error"}
    assert SECRET not in response.text + caplog.text
    for error_id in (re.findall(r"\b[0-9a-f]{16}\b", each["message"]) for each in told):
        assert len(error_id) == 1
        assert error_id[0] in caplog.text


async def test_the_gateway_is_told_to_hold_no_event_of_a_stream(client: httpx.AsyncClient) -> None:
    outer = RequestContext(None, None)
    with request_scope(outer):
        await fan_out(client, prompt="said", models=["judge"])
        assert not outer.asks_within
        await fan_out(client, prompt="said", models=["judge"], stream=True)
        assert outer.asks_within


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_all_of_them(engine: Engine, stream: bool) -> None:
    """By the message that a server has for that; vLLM's routes look for it."""
    engine.together = 9  # never
    body = {"prompt": "said", "models": ["judge", "guard"], "max_tokens": 4, "stream": stream}
    left = asyncio.Event()
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody reads it."""

    scope = {"type": "http", "method": "POST", "path": "/v1/fanout", "headers": [], "asgi": {}}
    serving = asyncio.create_task(
        application(engine)({**scope, "query_string": b""}, receive, send)
    )
    await asyncio.wait_for(engine.both.wait(), 10)
    left.set()
    await asyncio.wait_for(serving, 10)
    await asyncio.wait_for(engine.ended.wait(), 10)
    assert sorted(engine.cancelled) == ["guard", "judge"]


async def test_the_callers_key_goes_with_each(client: httpx.AsyncClient, engine: Engine) -> None:
    client.headers["authorization"] = "Bearer mine"
    await fan_out(client, prompt="said", models=["judge", "guard"])
    assert {each["authorization"] for each in engine.headers} == {"Bearer mine"}


@pytest.mark.parametrize(
    "body",
    [
        {"models": ["judge"]},
        {"models": ["judge"], "prompt": "a", "messages": []},
        {"models": [], "prompt": "a"},
        {"models": ["judge"] * 2, "prompt": "a"},
        {"models": ["judge"] * 129, "prompt": "a"},
        {"models": [{"model": "judge", "suffix": [1]}], "prompt": "a"},
        {"models": [{"model": "judge", "suffix": "a"}], "messages": []},
        {"models": [{"model": "judge", "messages": []}], "prompt": "a"},
        {"models": [{"suffix": "a"}], "prompt": "a"},
        {"models": "judge", "prompt": "a"},
    ],
)
async def test_what_makes_no_sense_is_the_clients_fault(
    client: httpx.AsyncClient, engine: Engine, body: dict[str, Any]
) -> None:
    response = await client.post("/v1/fanout", json=body)
    assert response.status_code in (400, 422), response.text
    assert engine.asked == []


async def test_a_reader_that_leaves_while_much_waits_for_it_leaves_no_task_behind() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        kind = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        while True:
            event = b'data: {"choices": []}\n\n'
            await send({"type": "http.response.body", "body": event, "more_body": True})

    asked = FanoutRequest(models=["plain", "judge"], prompt="p", stream=True)
    request = Request({"type": "http", "app": endless, "headers": []})
    before = asyncio.all_tasks()
    stream = _FanOut(request, asked).stream()
    assert b"status" in await anext(stream)
    await asyncio.sleep(0.05)  # until nothing more fits
    await stream.aclose()
    async with asyncio.timeout(20):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
