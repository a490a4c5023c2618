"""Stored responses and work in the background, in a fleet: who answers for them, and until when."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.messages import TOKENS_USED, ForwardedRequest, ReplicaResults
from registry.auth.caller import Caller, as_caller
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.http.rate_limits import RateLimitMiddleware
from registry.quotas.limits import unlimited
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from tests.support.cache.controller_harness import until
from tests.support.cache.fake_fleet import FakeReplicas
from tests.support.cache.fake_ingress import Ingress, respond_with

RESPONSES = "/v1/responses"
ACME = Caller("acme~app", EVERY_SCOPE)
STORED = ("acme", "resp_1")


def asked_of(ingress: Ingress) -> list[str]:
    return [each.name for each in ingress.replicas for _ in each.asked]


async def ask(
    ingress: Ingress, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    transport = httpx.ASGITransport(ingress.app)
    with as_caller(ACME):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, path, json=body)


@pytest.mark.parametrize("holder", [0, 1, 2])
async def test_who_has_a_response_answers_for_it(holder: int) -> None:
    ingress = Ingress(*(respond_with(200, b"{}") for _ in range(3)))
    ingress.replicas[holder].responses.add(STORED)
    assert (await ask(ingress, "GET", f"{RESPONSES}/resp_1")).status_code == 200
    assert (await ask(ingress, "POST", f"{RESPONSES}/resp_1/cancel")).status_code == 200
    body = {"model": "a", "input": "x", "previous_response_id": "resp_1"}
    assert (await ask(ingress, "POST", RESPONSES, body)).status_code == 200
    assert asked_of(ingress) == [f"r{holder}"] * 3


async def test_another_tenants_response_is_that_of_no_replica() -> None:
    ingress = Ingress(respond_with(200, b"{}"), respond_with(200, b"{}"))
    ingress.replicas[1].responses.add(("other", "resp_1"))
    await ask(ingress, "GET", f"{RESPONSES}/resp_1")
    (request,) = ingress.replicas[0].asked
    assert request.only is None


class Silent(FakeReplicas):
    """One more than answer."""

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        return replace(await super().call(operation, *arguments, only=only), unanswered=1)


async def test_while_a_replica_gives_no_answer_a_response_is_not_called_unknown() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    silent = Ingress(respond_with(200, b"{}"), port=Silent(*ingress.replicas))
    answer = await ask(silent, "GET", f"{RESPONSES}/resp_1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert asked_of(ingress) == []
    ingress.replicas[0].responses.add(STORED)
    assert (await ask(silent, "GET", f"{RESPONSES}/resp_1")).status_code == 200
    assert silent.in_flight.now == 0


async def test_a_replica_answers_for_no_other() -> None:
    """Where a router has lost sight of the one that could."""
    (replica,) = Ingress(respond_with(200, b"{}")).replicas
    scope = {"path": f"{RESPONSES}/resp_1", "method": "GET"}
    handled = replica.replica.handle(ForwardedRequest(scope, b"", only="another"))
    messages: list[Message] = [message async for batch in handled for message in batch]
    assert messages[0]["status"] == 503
    assert json.loads(messages[1]["body"])["error"]["code"] == "engine_unavailable"


async def test_to_read_or_cancel_needs_nothing_of_the_limits() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    ingress.in_flight.most = 0
    assert (await ask(ingress, "POST", f"{RESPONSES}/resp_1/cancel")).status_code == 200
    assert (await ask(ingress, "GET", f"{RESPONSES}/resp_1")).status_code == 200
    assert (await ask(ingress, "POST", RESPONSES, {"model": "a"})).status_code == 429


class Client:
    """Leaves as uvicorn's does: once it has its answer, or when `leaves` is set."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = json.dumps(body).encode()
        self._has_sent = False
        self.leaves = asyncio.Event()
        self.messages: list[Message] = []

    async def receive(self) -> Message:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.leaves.set()


def scope_of(path: str) -> Scope:
    headers = [(b"content-type", b"application/json")]
    return {"type": "http", "method": "POST", "path": path, "headers": headers}


def working(ends: asyncio.Event, *, streams: bool) -> ASGIApp:
    """As our gateway serves a request in the background: its task ends with the work."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        kind = b"text/event-stream" if streams else b"application/json"
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": streams})
        await ends.wait()

    return application


@pytest.mark.parametrize("streams", [False, True])
async def test_work_in_the_background_is_in_flight_until_it_ends(
    streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has his answer, or has left in its stream; nobody waits half a minute for that."""
    monkeypatch.setattr("fleet.replica.asgi_call._DISCONNECT_SECONDS", 0.0)
    ends = asyncio.Event()
    ingress = Ingress(working(ends, streams=streams))
    client = Client({"model": "a", "input": "x", "background": True, "stream": streams})
    serving = asyncio.create_task(ingress.app(scope_of(RESPONSES), client.receive, client.send))
    await until(lambda: len(client.messages) == 2)
    client.leaves.set()
    await asyncio.wait([serving], timeout=0.2)
    assert not serving.done()
    assert ingress.in_flight.now == 1
    ends.set()
    await serving
    assert ingress.in_flight.now == 0


async def remaining_after(
    application: ASGIApp, body: dict[str, Any], leaves: Callable[[Client], bool]
) -> int:
    """The tokens of a thousand that are left once the client has what it waits for, and left."""
    windows = RateWindows()
    ingress = Ingress(application)
    limited = RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))
    client = Client(body)
    caller = Caller("app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=1000))
    with as_caller(caller):
        serving = asyncio.create_task(
            limited(scope_of("/v1/completions"), client.receive, client.send)
        )
        await until(lambda: leaves(client))
        client.leaves.set()
        async with asyncio.timeout(10):
            await serving
    return (await windows.state("tokens of key app", 1000)).remaining


async def test_a_stream_whose_client_leaves_costs_what_came_and_not_what_it_asked_for() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    body = {"model": "a", "prompt": "x" * 100, "max_tokens": 900, "stream": True}
    left = await remaining_after(stream, body, lambda client: len(client.messages) == 6)
    assert left == 1000 - len(json.dumps(body)) // 4 - 5


async def test_tokens_that_are_told_behind_an_answer_are_counted_though_its_client_has_gone() -> (
    None
):
    told = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})
        for _ in range(20):  # for the ingress to see that its client is gone
            await asyncio.sleep(0)
        told.set()
        await send({"type": TOKENS_USED, "tokens": 7})

    body = {"model": "a", "prompt": "x", "max_tokens": 900}
    assert await remaining_after(answer, body, lambda client: told.is_set()) == 1000 - 7
