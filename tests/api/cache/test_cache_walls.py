"""Walls between tenants at the cache's routes: who may use an adapter may not move it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from engine.api.cache import create_cache_router
from engine.api.servers import create_server_router
from engine.operations.control import EngineCacheControl
from engine.operations.pins import PinService
from engine.telemetry.decision_log import DecisionLog
from engine.types import Tier
from registry.auth.caller import Caller
from registry.auth.scopes import EVERY_SCOPE
from registry.http.authentication import AuthenticationMiddleware
from registry.residency import NullResidencyStore, StoredPin
from registry.servers import ServerDirectory, ServerResidency
from tests.support.cache.controller_harness import Cache, adapter, running
from tests.support.cache.resolvers import KnownAdapters
from tests.support.servers.asgi_server import take_in

OWN, SHARED, HIDDEN = (
    adapter(n, name) for n, name in enumerate(("acme~own", "zeta~shared", "zeta~hidden"), start=1)
)
KNOWN = (OWN, SHARED, HIDDEN)
CALLERS = {
    "acme": Caller("acme~boss", EVERY_SCOPE, frozenset({SHARED.adapter})),
    "root": Caller("root", EVERY_SCOPE),
}
CHANGES = [
    ("POST", "/pins", "host"),
    ("DELETE", "/pins/{}", None),
    ("POST", "/prefetch", None),
    ("POST", "/evict", None),
]


class Evictions:
    async def record_eviction(self, version_id: int, *, actor: str, force: bool) -> None:
        """Nowhere."""


class OneServer(ServerDirectory):
    """That has everything pinned and in memory."""

    def __init__(self) -> None:
        pass

    async def all(self) -> list[ServerResidency]:
        references = [version.reference for version in KNOWN]
        pins = [StoredPin(n, each, "host", None) for n, each in enumerate(references)]
        return [ServerResidency("here", "tiny", datetime.now(UTC), True, pins, references)]


async def caller_of(key: str) -> Caller:
    return CALLERS[key]


class Asked:
    def __init__(self, http: httpx.AsyncClient, cache: Cache) -> None:
        self._http = http
        self.cache = cache

    async def __call__(self, who: str, method: str, path: str, **body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {who}"}
        url = f"/api/v1/cache{path}"
        return await self._http.request(method, url, headers=headers, json=body or None)

    async def change(self, who: str, change: tuple[str, str, str | None], of: str) -> int:
        method, path, tier = change
        body = {} if method == "DELETE" else {"reference": of}
        body |= {} if tier is None else {"tier": tier}
        return (await self(who, method, path.format(of), **body)).status_code


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    cache, names = Cache(slots=3, host=4), KnownAdapters(KNOWN)
    pins = PinService(cache.controller, NullResidencyStore(), names)
    steered = EngineCacheControl(cache.controller, pins, DecisionLog())
    app = FastAPI()
    servers = create_server_router(OneServer())
    take_in(app, servers, create_cache_router(steered, names, Evictions()))
    guarded = AuthenticationMiddleware(app, authenticate=caller_of)
    transport = httpx.ASGITransport(guarded)
    async with running(cache), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        yield Asked(http, cache)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]} {change[1]}")
async def test_what_is_granted_may_be_used_and_not_moved(
    asked: Asked, change: tuple[str, str, str | None]
) -> None:
    for version in KNOWN:
        await asked.cache.controller.pin(version, Tier.HOST)
    policy = asked.cache.policy
    before = policy.residency(), list(policy.pins)
    assert await asked.change("acme", change, SHARED.reference) == 403
    for unseen in (HIDDEN.reference, "zeta~nothing:1"):
        assert await asked.change("acme", change, unseen) == 404
    assert (policy.residency(), list(policy.pins)) == before
    for version in KNOWN:
        asked.cache.controller.unpin(version.id)
    for who, reference in (("acme", OWN.reference), ("root", HIDDEN.reference)):
        if change[0] == "DELETE":
            await asked(who, "POST", "/pins", reference=reference, tier="host")
        assert await asked.change(who, change, reference) in (200, 201, 202)


async def test_of_pins_and_servers_only_what_may_be_seen_is_listed(asked: Asked) -> None:
    for version in KNOWN:
        pinned = await asked("root", "POST", "/pins", reference=version.reference, tier="host")
        assert pinned.status_code == 201, pinned.text
    seen = {
        "root": [OWN.reference, SHARED.reference, HIDDEN.reference],
        "acme": [OWN.reference, SHARED.reference],
    }
    for who, references in seen.items():
        pins = (await asked(who, "GET", "/pins")).json()["items"]
        assert [pin["reference"] for pin in pins] == references
        (server,) = (await asked(who, "GET", "/servers")).json()["items"]
        assert server["residents"] == references
        assert [pin["reference"] for pin in server["pins"]] == references
        shown = (await asked(who, "GET", "")).json()
        assert {each["reference"] for each in shown["host"]} == set(references)
