"""The body of a fan-out: checked and parsed once, whatever the number of its models."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from engine.errors import EngineUnavailable
from engine.fanout.router import create_fanout_router
from engine.gateway import request_body
from engine.gateway.body_validation import ValidTokenIds
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.parsed_request import parse_bodies_once
from engine.telemetry.spans import NullTracing
from engine.types import AdapterVersion, VersionId
from engine.vllm.error_handlers import handle_errors
from registry.http.json_shape import check_json
from registry.http.rate_limits import request_rates, with_rates
from registry.rates.caller_rates import uncounted_rates

PROMPT = list(range(2000))


class Resolver:
    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        return AdapterVersion(VersionId(1), text, 1, "0" * 64, "/a", 8, 100)

    async def find(self, text: str) -> AdapterVersion:
        return await self.resolve(text)


class Uncounted:
    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        """No one asks."""

    def count_refusal(self, code: str) -> None:
        """No one asks."""


def nothing_wrong() -> EngineUnavailable | None:
    return None


class Served:
    """`asked`: what the models' route was sent. `parsed`, `checked`: bodies that were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.sent: list[bytes] = []
        self.kinds: set[type] = set()
        self.parsed: list[bytes] = []
        self.checked: list[bytes] = []
        parse = request_body._parse

        def parse_counted(content: bytes) -> Any:
            self.parsed.append(content)
            return parse(content)

        async def check_counted(content: bytes, max_values: int) -> None:
            self.checked.append(content)
            await check_json(content, max_values)

        monkeypatch.setattr(f"{request_body.__name__}._parse", parse_counted)
        monkeypatch.setattr(f"{request_body.__name__}.check_json", check_counted)
        self.app = FastAPI()
        handle_errors(self.app)
        self.app.include_router(create_fanout_router())
        self.app.add_api_route("/v1/completions", self._answer, methods=["POST"])
        parse_bodies_once(self.app.routes)
        self.app.add_middleware(
            AdapterGateway,
            resolver=Resolver(),
            base_models=frozenset({"base"}),
            counter=Uncounted(),
            tracing=NullTracing(),
            unavailable=nothing_wrong,
            in_flight=RequestsInFlight(lambda: None),
            own_prefix="/api/",
            max_body_bytes=2**20,
        )

    async def _answer(self, raw_request: Request) -> dict[str, Any]:
        if (rates := request_rates(raw_request.scope)) is not None:
            rates.count("tokens", 30)
        self.sent.append(await raw_request.body())
        asked = await raw_request.json()
        self.asked.append(deepcopy(asked))
        self.kinds.add(type(asked["prompt"]))
        asked["prompt"].clear()  # what one route does to its body is no other one's matter
        asked.get("stop", []).clear()
        return {"choices": []}

    async def fan_out(self, **body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/fanout", json=body)


async def test_token_ids_are_checked_and_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(monkeypatch)
    models = [{"model": f"judge-{number}", "suffix": [number]} for number in range(7)]
    response = await served.fan_out(models=[*models, "base", "other"], prompt=PROMPT, stop=["x"])
    assert response.status_code == 200, response.text
    assert {each["status"] for each in response.json()["answers"].values()} == {200}
    assert (len(served.parsed), len(served.checked)) == (1, 1)
    assert [json.loads(body) for body in served.sent] == served.asked
    assert served.kinds == {ValidTokenIds}, "no route validates them"
    ends = {each["model"]: each["prompt"][len(PROMPT) :] for each in served.asked}
    assert ends == {**{f"judge-{n}": [n] for n in range(7)}, "base": [], "other": []}
    assert all(each["prompt"][: len(PROMPT)] == PROMPT for each in served.asked)
    assert all(each["stop"] == ["x"] for each in served.asked)


async def test_token_ids_are_validated_by_the_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(monkeypatch)
    for prompt, suffix in (([1, -1], [1]), ([1], [-1]), ([1, 1.5], [1]), ([1], ["x"])):
        response = await served.fan_out(models=[{"model": "a", "suffix": suffix}], prompt=prompt)
        assert response.status_code == 400, response.text
    assert served.asked == []


async def test_a_number_that_only_json_holds_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(monkeypatch)
    response = await served.fan_out(models=["base"], prompt=[1, 2**80])
    assert response.status_code == 200, response.text
    assert json.loads(served.sent[0])["prompt"] == [1, 2**80]


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"prompt": [1], "models": [NaN]}', b"[]"])
async def test_what_is_no_request_is_refused(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    served = Served(monkeypatch)
    transport = httpx.ASGITransport(served.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post("/v1/fanout", content=body)
    assert response.status_code in (400, 422), response.text
    assert served.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"models": ["base"], "prompt": [1], "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"models": ["base"], "prompt": [1], "x": ' + b"[" * 300 + b"]" * 300 + b"}",
        rb'{"models": ["base"], "prompt": [1], "stop": ["\ud83d"]}',
        b'{"models": ["base"], "prompt": [1]}',
    ],
    ids=["deeper than Python reads", "deep", "half a character", "good"],
)
async def test_a_form_is_refused_for_its_json_is_not_checked(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    served = Served(monkeypatch)
    transport = httpx.ASGITransport(served.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        form = {"content-type": "multipart/form-data; boundary=x"}
        response = await client.post("/v1/fanout", content=body, headers=form)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "invalid_request"
    assert served.asked == []


async def test_what_the_models_use_on_a_replica_is_counted_for_the_ingress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica limits nothing: it says what a request used of its caller's tokens."""
    served, rates = Served(monkeypatch), uncounted_rates()

    async def replica(scope: Scope, receive: Receive, send: Send) -> None:
        await served.app(with_rates(scope, rates), receive, send)

    transport = httpx.ASGITransport(replica)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asked = {"models": ["base", "judge"], "prompt": PROMPT}
        response = await client.post("/v1/fanout", json=asked)
    assert response.status_code == 200, response.text
    assert rates.used("tokens") == 60


async def test_what_all_models_are_sent_is_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a replica no other bound counts it."""
    served = Served(monkeypatch)
    monkeypatch.setattr("engine.fanout.router.MAX_BYTES", 10_000)
    models = [{"model": f"judge-{number}", "suffix": [7] * 300} for number in range(8)]
    assert (await served.fan_out(models=models, prompt=[1] * 300)).status_code == 200
    served.asked.clear()
    for shared in ({"prompt": [1] * 500}, {"prompt": [1], "x": "y" * 1500}):
        refused = await served.fan_out(models=models, **shared)
        assert refused.status_code == 400, refused.text
        assert "more than 10000 bytes" in refused.json()["error"]["message"]
    assert served.asked == []
