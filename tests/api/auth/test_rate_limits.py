"""Rates of keys and tenants over HTTP: headers, refusals, changes, servers that count together."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from registry.api.access.keys import create_key_router
from registry.api.access.rates import create_rate_router
from registry.api.access.tenants import create_tenant_router
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.http.authentication import AuthenticationMiddleware
from registry.http.rate_limits import RateLimitMiddleware
from registry.quotas.limit_cache import LimitCache
from registry.quotas.limit_queries import all_limits
from registry.rates.caller_rates import CallerRates
from registry.rates.database_storage import DatabaseStorage
from registry.rates.usage import RateUsage
from registry.rates.windows import MINUTE, RateWindows
from registry.tenants.service import TenantService
from tests.api.keyed_client import Asked
from tests.support.servers.asgi_server import take_in

BODY = {"name": "other", "scopes": ["infer"]}


def guarded(app: FastAPI, database: Database, keys: KeyService, *, share: bool) -> Any:
    """As a server has it: authentication, then rates."""

    async def read() -> Any:
        return await all_limits(database)

    limits = LimitCache(read, database.seen_commits())
    service = TenantService(database, changed=limits.refresh)
    take_in(app, create_key_router(keys))
    take_in(app, create_tenant_router(service, keys))
    windows = RateWindows(DatabaseStorage(database) if share else None)
    take_in(app, create_rate_router(RateUsage(database, windows)))
    rates = CallerRates(windows, limits.limits_of)
    return AuthenticationMiddleware(
        RateLimitMiddleware(app, rates=rates), authenticate=keys.authenticate
    )


@pytest.fixture(params=[False])
def share(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def asked(database: Database, share: bool) -> AsyncIterator[Asked]:
    while time.time() % MINUTE > MINUTE - 5:  # else the sums would be split over two minutes
        await asyncio.sleep(0.2)
    keys = KeyService(database)
    transport = httpx.ASGITransport(guarded(FastAPI(), database, keys, share=share))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        asked = Asked(http, keys)
        await asked.key("root", Scope.ADMIN)
        yield asked


async def limit_key(asked: Asked, name: str, **limits: int | None) -> httpx.Response:
    return await asked.ask("root", "PATCH", f"/keys/{name}", json=limits)


async def test_a_limited_key_is_told_what_is_left_and_then_refused(asked: Asked) -> None:
    await asked.key("ci", Scope.ADMIN)
    changed = await limit_key(asked, "ci", max_requests_per_minute=2)
    assert changed.json()["max_requests_per_minute"] == 2
    for left in ("1", "0"):
        answer = await asked.ask("ci", "GET", "/keys")
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == left
        assert answer.headers["x-ratelimit-reset-requests"][-1] == "s"
    refused = await asked.ask("ci", "GET", "/keys")
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 2 * MINUTE
    free = await asked.ask("root", "GET", "/keys")
    assert not [name for name in free.headers if name.startswith("x-ratelimit")]
    assert (await limit_key(asked, "ci", max_requests_per_minute=None)).status_code == 200
    assert (await asked.ask("ci", "GET", "/keys")).status_code == 200


async def test_the_bytes_of_a_body_are_counted_and_what_was_not_sent_is_given_back(
    asked: Asked,
) -> None:
    await asked.key("ci", Scope.ADMIN)
    await limit_key(asked, "ci", max_bytes_per_minute=1000)
    made = await asked.ask("ci", "POST", "/keys", json=BODY)
    assert made.status_code == 201
    sent = len(made.request.content)
    assert int(made.headers["x-ratelimit-remaining-bytes"]) == 1000 - sent
    large = await asked.ask("ci", "POST", "/keys", content=b"x" * 1001)
    assert large.status_code == 429
    assert "retry-after" not in large.headers  # it would never fit

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 600
        yield b"x" * 600

    # without a declared length it is counted as it comes
    assert (await asked.ask("ci", "POST", "/keys", content=chunks())).status_code == 422
    after = await asked.ask("ci", "GET", "/keys")
    assert after.status_code == 429


async def test_all_keys_of_a_tenant_share_its_limit(asked: Asked) -> None:
    limits = {"name": "acme", "max_requests_per_minute": 2}
    assert (await asked.ask("root", "POST", "/tenants", json=limits)).status_code == 201
    for name in ("acme~a", "acme~b"):
        await asked.key(name, Scope.ADMIN)
        assert (await asked.ask(name, "GET", "/keys")).status_code == 200
    assert await asked.says("acme~a", "GET", "/keys") == (429, "rate_limit_exceeded")
    # its own admin may limit its keys, but not lift the tenant's limit
    shown = (await asked.ask("root", "GET", "/tenants/acme")).json()
    assert shown["max_requests_per_minute"] == 2


async def test_a_new_key_may_have_limits_and_a_wrong_one_is_refused(asked: Asked) -> None:
    made = await asked.ask("root", "POST", "/keys", json=BODY | {"max_tokens_per_minute": 5000})
    assert made.json()["max_tokens_per_minute"] == 5000
    assert (await asked.ask("root", "GET", "/keys/other")).json()["max_tokens_per_minute"] == 5000
    for wrong in (0, -1, "5", 1.5, 2**63):
        assert (await limit_key(asked, "other", max_tokens_per_minute=wrong)).status_code == 422  # type: ignore[arg-type]
    assert await asked.says("root", "PATCH", "/keys/nobody", json={}) == (404, "unknown_key")
    await asked.ask("root", "DELETE", "/keys/other")
    refused = await limit_key(asked, "other", max_tokens_per_minute=1)
    assert refused.json()["code"] == "key_revoked"


async def rates_in_use(asked: Asked, of: str, by: str = "root") -> dict[str, Any]:
    answer = await asked.ask(by, "GET", f"/rates/{of}")
    assert answer.status_code == 200, answer.text
    return {item["name"]: item for item in answer.json()["items"]}


async def test_what_is_used_of_rates_is_shown_and_a_tenant_sees_its_own(asked: Asked) -> None:
    limits = {"name": "acme", "max_requests_per_minute": 9, "max_bytes_per_minute": 1000}
    assert (await asked.ask("root", "POST", "/tenants", json=limits)).status_code == 201
    await asked.ask("root", "POST", "/tenants", json={"name": "free"})
    rival = {"name": "rival", "max_tokens_per_minute": 5}
    await asked.ask("root", "POST", "/tenants", json=rival)
    for name in ("acme~a", "acme~b", "rival~a"):
        await asked.key(name, Scope.ADMIN)
        await limit_key(asked, name, max_requests_per_minute=4)
    for _ in range(2):
        assert (await asked.ask("acme~a", "GET", "/keys")).status_code == 200
    tenants = await rates_in_use(asked, "tenants")
    assert tenants.keys() == {"acme", "rival"}, "only those with limits"
    used = tenants["acme"]["requests"]
    assert (used["limit"], used["used"], used["remaining"]) == (9, 2, 7)
    assert 0 < used["reset_seconds"] <= 2 * MINUTE
    assert tenants["acme"]["bytes"]["used"] == 0, "a request without a body"
    assert tenants["acme"]["tokens"] is None
    keys = await rates_in_use(asked, "keys")
    assert {name: item["requests"]["used"] for name, item in keys.items()} == {
        "acme~a": 2,
        "acme~b": 0,
        "rival~a": 0,
    }
    assert (await rates_in_use(asked, "tenants", by="acme~a")).keys() == {"acme"}
    assert (await rates_in_use(asked, "keys", by="acme~a")).keys() == {"acme~a", "acme~b"}
    await asked.key("acme~small", Scope.INFER)
    assert await asked.says("acme~small", "GET", "/rates/keys") == (403, "scope_missing")


async def test_rates_in_use_come_in_pages_without_revoked_keys(asked: Asked) -> None:
    for number in range(3):
        await asked.key(f"k{number}", Scope.INFER)
        await limit_key(asked, f"k{number}", max_tokens_per_minute=10 + number)
    await asked.ask("root", "DELETE", "/keys/k1")
    first = (await asked.ask("root", "GET", "/rates/keys?limit=1")).json()
    assert [item["name"] for item in first["items"]] == ["k0"]
    more = await asked.ask("root", "GET", f"/rates/keys?page_token={first['next_page_token']}")
    assert [item["tokens"]["limit"] for item in more.json()["items"]] == [12]
    assert more.json()["next_page_token"] is None


@pytest.mark.both_databases
@pytest.mark.parametrize("share", [True], indirect=True)
async def test_servers_on_one_database_count_together(
    asked: Asked, database: Database, database_url: str
) -> None:
    other_database = Database(database_url)
    keys = KeyService(other_database)
    transport = httpx.ASGITransport(guarded(FastAPI(), other_database, keys, share=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        other = Asked(http, keys)
        other.texts = asked.texts
        await asked.key("ci", Scope.ADMIN)
        await limit_key(asked, "ci", max_requests_per_minute=3, max_bytes_per_minute=1000)
        found = [
            (await server.ask("ci", "GET", "/keys")) for server in (asked, other, asked, other)
        ]
        assert [answer.status_code for answer in found] == [200, 200, 200, 429]
        left = [answer.headers["x-ratelimit-remaining-requests"] for answer in found]
        assert left == ["2", "1", "0", "0"]
        for server in (asked, other):  # what the other counted too
            assert (await rates_in_use(server, "keys"))["ci"]["requests"]["used"] == 3
    await other_database.close()
