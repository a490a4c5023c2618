"""Rates: windows of a minute, what a request takes of them, and the middleware of addresses."""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_network

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from registry.auth.caller import ANONYMOUS, Caller
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.errors import RateLimitExceeded
from registry.errors.access import Limit
from registry.http.rate_limits import AddressLimitMiddleware
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.quotas.limits import TenantLimits
from registry.rates.caller_rates import CallerRates, openai_duration
from registry.rates.memory_storage import BoundedMemoryStorage
from registry.rates.windows import MINUTE, RateWindows, WindowState


def caller(name: str = "acme~app", **limits: int) -> Caller:
    return Caller(name, EVERY_SCOPE, rates=RateLimits(**limits) if limits else None)


def rates(
    windows: RateWindows | None = None,
    refused: Callable[[str, Limit], None] = lambda tenant, limit: None,
    **tenant: int,
) -> CallerRates:
    limits = TenantLimits(**tenant)
    return CallerRates(windows or RateWindows(), lambda name: limits, refused)


async def used(windows: RateWindows, subject: str, most: int) -> int:
    return most - (await windows.state(subject, most)).remaining


async def away_from_the_end_of_a_minute() -> None:
    """Else the tests' sums would be split over two minutes, and weighed."""
    while time.time() % MINUTE > MINUTE - 2:
        await asyncio.sleep(0.1)


def test_without_limits_there_is_nothing_to_count() -> None:
    assert rates().of(ANONYMOUS) is None
    assert rates().of(caller()) is None
    assert rates(max_slots=1).of(caller()) is None
    assert rates(max_requests_per_minute=1).of(caller()) is not None
    assert rates().of(caller("app", max_tokens_per_minute=1)) is not None


async def test_a_key_and_its_tenant_are_both_limited_and_a_refusal_takes_nothing() -> None:
    await away_from_the_end_of_a_minute()
    windows, told = RateWindows(), []
    limited = rates(windows, lambda *refusal: told.append(refusal), max_requests_per_minute=3)
    one, other = caller(max_requests_per_minute=2), caller("acme~other")
    for who in (one, one, other):
        request = limited.of(who)
        assert request is not None
        await request.take("requests", 1)
    request = limited.of(one)
    assert request is not None
    with pytest.raises(RateLimitExceeded, match="key acme~app may use 2 requests"):
        await request.take("requests", 1)
    request = limited.of(other)
    assert request is not None
    with pytest.raises(RateLimitExceeded, match="tenant acme may use 3 requests") as caught:
        await request.take("requests", 1)
    assert 1 <= (caught.value.retry_after_seconds or 0) <= 2 * MINUTE
    assert told == [("acme", Limit.REQUESTS_PER_MINUTE)] * 2
    assert await used(windows, "requests of key acme~app", 2) == 2
    assert await used(windows, "requests of tenant acme", 3) == 3


async def test_the_estimate_of_tokens_is_corrected_by_what_was_used() -> None:
    await away_from_the_end_of_a_minute()
    windows = RateWindows()
    request = rates(windows).of(caller("app", max_tokens_per_minute=1000))
    assert request is not None
    await request.take("tokens", 700, at_least=600)
    assert dict(request.headers())[b"x-ratelimit-remaining-tokens"] == b"300"
    request.count("tokens", 40)
    await request.settle()
    assert await used(windows, "tokens of key app", 1000) == 40


async def test_what_was_used_beyond_the_estimate_is_owed() -> None:
    await away_from_the_end_of_a_minute()
    limited = rates(RateWindows())
    who = caller("app", max_tokens_per_minute=100)
    request = limited.of(who)
    assert request is not None
    await request.take("tokens", 5, at_least=0)
    request.count("tokens", 1000)
    await request.settle()
    later = limited.of(who)
    assert later is not None
    with pytest.raises(RateLimitExceeded) as caught:
        await later.take("tokens", 5, at_least=0)
    assert MINUTE / 2 < (caught.value.retry_after_seconds or 0) <= 2 * MINUTE


async def test_only_what_is_no_estimate_is_refused_for_being_more_than_the_whole_limit() -> None:
    await away_from_the_end_of_a_minute()
    limited = rates(RateWindows())
    who = caller("app", max_tokens_per_minute=100)
    request = limited.of(who)
    assert request is not None
    with pytest.raises(RateLimitExceeded, match="this request alone asks for 120") as caught:
        await request.take("tokens", 120, at_least=110)
    assert caught.value.retry_after_seconds is None
    await request.take("tokens", 5000, at_least=10)  # a long prompt, or an image
    assert dict(request.headers())[b"x-ratelimit-remaining-tokens"] == b"0"


async def test_a_limit_of_zero_allows_nothing() -> None:
    request = rates().of(caller("app", max_tokens_per_minute=0))
    assert request is not None
    with pytest.raises(RateLimitExceeded):
        await request.take("tokens", 1, at_least=0)


@pytest.mark.parametrize(
    ("previous", "current", "second", "cost", "wait"),
    [
        (0, 100, 30, 1, 31),  # 1 of 100 has to leave: after the minute, and 1/100 of the next
        (100, 0, 0, 50, 30),  # half of the minute before must be a minute ago
        (100, 50, 30, 50, 30),
        (0, 1000, 50, 100, 70),  # what is owed
    ],
)
def test_a_retry_is_told_when_there_will_be_room(
    previous: int, current: int, second: int, cost: int, wait: int
) -> None:
    state = WindowState(0, 0.0, previous, current, now=60 * 1000 + second)
    assert state.wait_seconds(100, cost) == wait


def test_resets_are_written_as_openai_writes_them() -> None:
    written = [openai_duration(seconds) for seconds in (0.25, 1, 59.6, 90)]
    assert written == ["250ms", "1s", "1m0s", "1m30s"]


async def test_many_addresses_fill_no_memory() -> None:
    storage = BoundedMemoryStorage(max_keys=100)
    windows = RateWindows(storage)
    for n in range(1000):
        assert await windows.take(f"10.0.{n // 256}.{n % 256}", 5, 1)
    assert len(storage.storage) == len(storage.expirations) == 100
    assert not storage.locks


# ---- addresses -----------------------------------------------------------------------------------


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def limited_app(trusted: str | None = None) -> Starlette:
    return Starlette(
        routes=[Route("/v1/models", answer), Route("/healthz", answer), Route("/api/v1/x", answer)],
        middleware=[
            Middleware(ClientAddressMiddleware, trusted=[ip_network(trusted)] if trusted else []),
            Middleware(AddressLimitMiddleware, windows=RateWindows(), most_per_minute=2),
        ],
    )


async def ask(
    app: Starlette, path: str, address: str = "192.0.2.1", **headers: str
) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_an_address_is_limited_and_others_and_probes_are_not() -> None:
    await away_from_the_end_of_a_minute()
    app = limited_app()
    statuses = [(await ask(app, "/v1/models")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await ask(app, "/healthz")).status_code == 200
    assert (await ask(app, "/v1/models", "192.0.2.2")).status_code == 200
    refused = await ask(app, "/api/v1/x")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 2 * MINUTE
    error = (await ask(app, "/v1/models")).json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")


async def test_all_addresses_of_one_ipv6_network_are_one() -> None:
    await away_from_the_end_of_a_minute()
    app = limited_app()
    found = [(await ask(app, "/v1/models", f"2001:db8::{n}")).status_code for n in range(1, 4)]
    assert found == [200, 200, 429]
    assert (await ask(app, "/v1/models", "2001:db8:0:1::1")).status_code == 200


async def test_a_client_behind_a_trusted_proxy_is_told_apart_and_cannot_pretend() -> None:
    await away_from_the_end_of_a_minute()
    app = limited_app(trusted="10.0.0.0/8")
    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        passed = await ask(app, "/v1/models", "10.0.0.1", x_forwarded_for=client)
        assert passed.status_code == 200
    again = await ask(app, "/v1/models", "10.0.0.1", x_forwarded_for="1.1.1.1, 192.0.2.1")
    assert again.status_code == 429
    app = limited_app(trusted="10.0.0.0/8")
    found = [
        (await ask(app, "/v1/models", "192.0.2.9", x_forwarded_for=f"1.1.1.{n}")).status_code
        for n in range(3)
    ]
    assert found == [200, 200, 429]
