"""Tokens of a caller: taken by an estimate, corrected by the engine's count, added up by tenant."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.request_context import RequestContext, reset_request, set_request
from engine.gateway.request_leases import RequestLeases
from engine.gateway.tenant_accounts import TenantAccounts
from engine.telemetry.spans import NullTracing
from engine.types import VersionId, WorkDone
from registry.auth.caller import Caller, as_caller
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.http.rate_limits import RateLimitMiddleware
from registry.quotas.limits import unlimited
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import MINUTE, RateWindows
from tests.support.cache.controller_harness import A, Cache, running

WORK = WorkDone(prompt_tokens=30, generated_tokens=50, first_token_at=None)
KEY = Caller("acme~app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=1000))


class Counted:
    """What was counted, as the metrics would."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.tokens: list[tuple[str, int, int]] = []
        self.slot_seconds: list[tuple[str, float]] = []

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        """Not looked at."""

    def count_refusal(self, code: str) -> None:
        self.refusals.append(code)

    def observe_first_token(self, outcome: object, seconds: float) -> None:
        """Not looked at."""

    def count_tokens(self, name: str, prompt: int, generation: int) -> None:
        self.tokens.append((name, prompt, generation))

    def count_shared_prefix(self, adapter: str, tokens: int) -> None:
        """Not looked at."""

    def count_slot_seconds(self, tenant: str, seconds: float) -> None:
        self.slot_seconds.append((tenant, seconds))


class Server:
    """Rates around a gateway around an application that asks the engine for the base model."""

    def __init__(self) -> None:
        self.counted = Counted()
        self.windows = RateWindows()
        self.leases = RequestLeases(Cache().controller, self.counted, self.counted)
        self.ends: list[Callable[[], None]] = []
        self.is_aborted = False
        gateway = AdapterGateway(
            self.application,
            resolver=None,  # type: ignore[arg-type]  # the base model needs none
            base_models=frozenset({"base"}),
            counter=self.counted,
            tracing=NullTracing(),
            unavailable=lambda: None,
            in_flight=RequestsInFlight(lambda: None),
            own_prefix="/api/",
            max_body_bytes=10_000,
        )
        rates = CallerRates(self.windows, unlimited)
        self.app: ASGIApp = RateLimitMiddleware(gateway, rates=rates)

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if not json.loads(message["body"]).get("wrong"):
            admitted = await self.leases.admit(None, lambda: None)
            self.ends.append(lambda: admitted.on_end(WORK))
            if not self.is_aborted:
                self.ends.pop()()
        await JSONResponse({})(scope, receive, send)

    async def ask(self, caller: Caller = KEY, **fields: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        with as_caller(caller):
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.post("/v1/completions", json={"model": "base", **fields})

    async def used(self) -> int:
        state = await self.windows.state("tokens of key acme~app", 1000)
        return 1000 - state.remaining


@pytest.fixture
async def server() -> Server:
    while time.time() % MINUTE > MINUTE - 2:  # else the sums would be split over two minutes
        await asyncio.sleep(0.1)
    return Server()


async def test_the_estimate_is_shown_and_what_the_engine_counted_is_kept(server: Server) -> None:
    answer = await server.ask(max_tokens=600, prompt="x" * 400)
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert 200 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 300
    assert await server.used() == 80
    assert server.counted.tokens == [("acme", 30, 50)]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 900},
        {"max_completion_tokens": 900, "max_tokens": 5},
        {"max_output_tokens": 900},
        {"max_tokens": 300, "n": 3},
        {"prompt": "x" * 3600},
    ],
)
async def test_what_may_be_generated_counts_until_it_is_known(
    server: Server, fields: dict[str, Any]
) -> None:
    server.is_aborted = True  # the engine still works on the first one
    estimated = await server.ask(**fields)
    assert 0 < int(estimated.headers["x-ratelimit-remaining-tokens"]) < 100
    assert await server.used() == 0
    server.ends.pop()()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await server.used() == 80, "what the engine did after the response is counted too"


async def test_a_request_beyond_the_limit_is_refused_as_openai_does(server: Server) -> None:
    for _ in range(12):
        await server.ask(max_tokens=10)
    refused = await server.ask(max_tokens=100)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert "key acme~app may use 1000 tokens in a minute" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 2 * MINUTE
    assert int(refused.headers["x-ratelimit-remaining-tokens"]) < 100
    assert server.counted.refusals == ["rate_limit_exceeded"]
    never = await server.ask(max_tokens=1001)
    assert "this request alone asks for" in never.json()["error"]["message"]
    assert "retry-after" not in never.headers


async def test_a_request_that_generates_nothing_costs_no_tokens(server: Server) -> None:
    assert (await server.ask(max_tokens=900, wrong=True)).status_code == 200
    assert await server.used() == 0


async def test_a_caller_without_limits_gets_no_headers_and_its_tenant_is_counted(
    server: Server,
) -> None:
    answer = await server.ask(Caller("acme~free", EVERY_SCOPE), max_tokens=10**9)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    await server.ask(Caller("platform", EVERY_SCOPE))
    assert server.counted.tokens == [("acme", 30, 50)]


async def test_the_slot_of_an_adapter_counts_for_the_tenant_of_the_request() -> None:
    counted = Counted()
    async with running(Cache()) as cache:
        leases = RequestLeases(cache.controller, counted, counted)
        before = set_request(RequestContext(A.reference, A))
        with as_caller(KEY):
            for _ in range(2):
                admitted = await leases.admit(A.id, lambda: None)
                admitted.on_end(WORK)
        reset_request(before)
    assert [tenant for tenant, _ in counted.slot_seconds] == ["acme", "acme"]


def test_a_slot_that_several_requests_of_a_tenant_share_counts_once() -> None:
    now, counted = [0.0], Counted()
    accounts = TenantAccounts(counted, lambda: now[0])
    one, other = VersionId(1), VersionId(2)
    steps: list[tuple[int, Callable[[], None]]] = [
        (0, lambda: accounts.begin_lease("acme", one)),
        (2, lambda: accounts.begin_lease("acme", one)),
        (3, lambda: accounts.end_lease("acme", one)),
        (3, lambda: accounts.begin_lease("acme", other)),
        (3, lambda: accounts.begin_lease("zeta", one)),
        (7, lambda: accounts.end_lease("acme", one)),
        (8, lambda: accounts.end_lease("acme", other)),
        (9, lambda: accounts.end_lease("zeta", one)),
        (20, lambda: accounts.begin_lease("acme", one)),
        (21, lambda: accounts.end_lease("acme", one)),
    ]
    for at, step in steps:
        now[0] = float(at)
        step()
    total = {
        tenant: sum(seconds for name, seconds in counted.slot_seconds if name == tenant)
        for tenant in ("acme", "zeta")
    }
    assert total == {"acme": 7 + 5 + 1, "zeta": 6}
