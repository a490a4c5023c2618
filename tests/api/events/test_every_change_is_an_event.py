"""Every route that may change something writes an event, or says here why it does not.

The list of routes is the OpenAPI document's, so that a new one without an event fails.
"""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3
from fastapi import FastAPI

from engine.api.cache import create_cache_router
from engine.api.servers import create_server_router
from engine.operations.control import EngineCacheControl
from engine.operations.pins import PinService
from engine.resolver import RegistryResolver
from engine.telemetry.decision_log import DecisionLog
from registry.api.access.keys import create_key_router
from registry.api.access.tenants import create_tenant_router
from registry.auth.keys import KeyService
from registry.bases.service import BaseService
from registry.database.engine import Database
from registry.events.log import EventLog, RecordedEvent
from registry.events.repository import EventFilter
from registry.events.watermark import EventWatermark
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.inspection.base_identity import unread_identity
from registry.models import EventKind, now
from registry.residency import ResidencyStore
from registry.servers import ServerDirectory
from registry.service import RegistryService
from registry.tenants.service import TenantService
from tests.api.conftest import AdapterMaker
from tests.api.helpers import publish_some
from tests.support.cache.controller_harness import Cache, running
from tests.support.servers.asgi_server import take_in
from tests.support.servers.webhook_receiver import Receiver

ROOT = Path(__file__).parents[3]
SAFE = frozenset({"get", "head", "options"})

Ask = Callable[["Everything"], Awaitable[httpx.Response]]

NO_EVENT = {
    "POST /api/v1/inspect": "it says what registering would say, and keeps nothing",
    "POST /api/v1/cache/prefetch": "it is what any request for the adapter does, and no more",
    "POST /api/v1/adapters/{name}/versions/{number}/probe": "it asks the engine; a version that "
    "fails is quarantined, with an event: tests/e2e/cache/test_probing.py",
    "POST /api/v1/webhooks/{webhook}/test": "it sends a message about nothing; the deliveries "
    "of the webhook show it",
    **dict.fromkeys(
        (f"{method} /api/v1/prompts/{{name}}" for method in ("PUT", "PATCH", "DELETE")),
        "a set of prompts changes nothing that is served; it has who changed it last, and when",
    ),
    "POST /generate": "it generates text",
    "POST /v1/fanout": "it generates text",
}


@dataclass
class Everything:
    """The whole API but vLLM's, over both a real registry and a cache without an engine."""

    http: httpx.AsyncClient
    service: RegistryService
    make_adapter: AdapterMaker
    receiver: Receiver
    archive: bytes = b""

    async def webhook(self) -> int:
        answer = await self.http.post("/webhooks", json={"url": self.receiver.url})
        return int(answer.json()["id"])

    async def upload(self) -> int:
        folder = self.make_adapter("uploaded", seed=77)
        files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
        return int(
            (await self.http.post("/adapters/new/versions?wait=0", files=files)).json()["id"]
        )

    async def failed_delivery(self) -> tuple[int, int]:
        webhook = await self.webhook()
        await self.http.patch("/adapters/bot", json={"description": "something to tell"})
        async with asyncio.timeout(20):
            while not (
                items := (await self.http.get(f"/webhooks/{webhook}/deliveries")).json()["items"]
            ):
                await asyncio.sleep(0.05)
        return webhook, int(items[0]["id"])


async def _retry(e: Everything) -> httpx.Response:
    webhook, delivery = await e.failed_delivery()
    return await e.http.post(f"/webhooks/{webhook}/deliveries/{delivery}/retry")


async def _after(
    first: Awaitable[Any], then: Callable[[Any], Awaitable[httpx.Response]]
) -> httpx.Response:
    return await then(await first)


def _step(what: str, *before: str, **body: Any) -> Ask:
    async def ask(e: Everything) -> httpx.Response:
        for earlier in before:
            answer = await e.http.post(f"/adapters/bot/versions/2/{earlier}", json={})
            assert answer.status_code == 200, answer.text
        return await e.http.post(f"/adapters/bot/versions/2/{what}", json=body)

    return ask


async def _pinned(e: Everything) -> None:
    assert (await e.http.post("/cache/pins", json={"reference": "bot:1"})).status_code == 201


async def _unpin(e: Everything) -> httpx.Response:
    await _pinned(e)
    return await e.http.delete("/cache/pins/bot:1")


async def _evict(e: Everything) -> httpx.Response:
    await _unpin(e)
    return await e.http.post("/cache/evict", json={"reference": "bot:1"})


async def _rollback(e: Everything) -> httpx.Response:
    await e.http.put("/adapters/bot/aliases/default", json={"version": 2})
    return await e.http.post("/adapters/bot/aliases/default/rollback", json={})


async def _collect(e: Everything) -> httpx.Response:
    retired = await e.http.post("/adapters/bot/versions/2/retire", json={})
    assert retired.status_code == 200, retired.text
    body = {"dry_run": False, "keep_last": 0, "rollback_window_days": 0}
    return await e.http.post("/gc", json=body)


async def _tenant(e: Everything) -> httpx.Response:
    return await e.http.post("/tenants", json={"name": "acme"})


async def _grant(e: Everything) -> httpx.Response:
    await _tenant(e)
    return await e.http.put("/adapters/bot/grants/acme")


KEY = {"name": "app", "scopes": ["infer"]}
BOT = "/adapters/bot"


async def _remove_name(e: Everything) -> httpx.Response:
    await e.http.put(f"{BOT}/names", json={"name": "Org/Bot"})
    return await e.http.delete(f"{BOT}/names", params={"served_name": "Org/Bot"})


BASES = {"base": "tiny", "other": "other"}


async def _link(e: Everything) -> httpx.Response:
    return await e.http.post("/bases/link", json=BASES)


async def _unlink(e: Everything) -> httpx.Response:
    await _link(e)
    return await e.http.post("/bases/unlink", json=BASES)


async def _forget(e: Everything) -> httpx.Response:
    return await e.http.delete("/cache/servers/gone")


CHANGES: dict[str, tuple[EventKind, Ask]] = {
    "PATCH /api/v1/adapters/{name}": (
        EventKind.ADAPTER_UPDATED,
        lambda e: e.http.patch(BOT, json={"description": "new"}),
    ),
    "PUT /api/v1/adapters/{name}/names": (
        EventKind.NAME_SET,
        lambda e: e.http.put(f"{BOT}/names", json={"name": "Org/Bot"}),
    ),
    "DELETE /api/v1/adapters/{name}/names": (EventKind.NAME_REMOVED, _remove_name),
    "PUT /api/v1/adapters/{name}/aliases/{alias}": (
        EventKind.ALIAS_MOVED,
        lambda e: e.http.put(f"{BOT}/aliases/prod", json={"version": 2}),
    ),
    "DELETE /api/v1/adapters/{name}/aliases/{alias}": (
        EventKind.ALIAS_DELETED,
        lambda e: e.http.delete(f"{BOT}/aliases/default"),
    ),
    "POST /api/v1/adapters/{name}/aliases/{alias}/rollback": (EventKind.ALIAS_MOVED, _rollback),
    "POST /api/v1/adapters/{name}/versions": (
        EventKind.VERSION_REGISTERED,
        lambda e: e.http.post(f"{BOT}/versions", json={"source": str(e.make_adapter("x", seed=9))}),
    ),
    "PATCH /api/v1/adapters/{name}/versions/{number}": (
        EventKind.VERSION_UPDATED,
        lambda e: e.http.patch(f"{BOT}/versions/2", json={"description": "new"}),
    ),
    "POST /api/v1/adapters/{name}/versions/{number}/deprecate": (
        EventKind.VERSION_DEPRECATED,
        _step("deprecate"),
    ),
    "POST /api/v1/adapters/{name}/versions/{number}/restore": (
        EventKind.VERSION_RESTORED,
        _step("restore", "deprecate"),
    ),
    "POST /api/v1/adapters/{name}/versions/{number}/retire": (
        EventKind.VERSION_RETIRED,
        _step("retire"),
    ),
    "POST /api/v1/adapters/{name}/versions/{number}/quarantine": (
        EventKind.VERSION_QUARANTINED,
        _step("quarantine", reason="broken"),
    ),
    "POST /api/v1/adapters/{name}/versions/{number}/purge": (
        EventKind.VERSION_PURGED,
        _step("purge", "retire"),
    ),
    "POST /api/v1/cache/pins": (
        EventKind.CACHE_PINNED,
        lambda e: e.http.post("/cache/pins", json={"reference": "bot:1", "tier": "host"}),
    ),
    "DELETE /api/v1/cache/pins/{reference}": (EventKind.CACHE_UNPINNED, _unpin),
    "POST /api/v1/cache/evict": (EventKind.CACHE_EVICTED, _evict),
    "POST /api/v1/bases/link": (EventKind.BASE_LINKED, _link),
    "POST /api/v1/bases/unlink": (EventKind.BASE_UNLINKED, _unlink),
    "POST /api/v1/adapters/{name}/versions/{number}/recheck": (
        EventKind.VERSION_RECHECKED,
        lambda e: e.http.post("/adapters/bot/versions/1/recheck", json={}),
    ),
    "DELETE /api/v1/cache/servers/{name}": (EventKind.SERVER_FORGOTTEN, _forget),
    "POST /api/v1/gc": (EventKind.VERSION_PURGED, _collect),
    "POST /api/v1/import": (
        EventKind.ADAPTER_IMPORTED,
        lambda e: e.http.post("/import", content=e.archive),
    ),
    "POST /api/v1/jobs/cancel": (
        EventKind.INGEST_CANCELLED,
        lambda e: _after(e.upload(), lambda _: e.http.post("/jobs/cancel?state=queued")),
    ),
    "POST /api/v1/jobs/{number}/cancel": (
        EventKind.INGEST_CANCELLED,
        lambda e: _after(e.upload(), lambda job: e.http.post(f"/jobs/{job}/cancel")),
    ),
    "POST /api/v1/keys": (EventKind.KEY_CREATED, lambda e: e.http.post("/keys", json=KEY)),
    "DELETE /api/v1/keys/{name}": (
        EventKind.KEY_REVOKED,
        lambda e: _after(e.http.post("/keys", json=KEY), lambda _: e.http.delete("/keys/app")),
    ),
    "PATCH /api/v1/keys/{name}": (
        EventKind.KEY_CHANGED,
        lambda e: _after(
            e.http.post("/keys", json=KEY),
            lambda _: e.http.patch("/keys/app", json={"max_requests_per_minute": 1}),
        ),
    ),
    "POST /api/v1/keys/{name}/rotate": (
        EventKind.KEY_ROTATED,
        lambda e: _after(e.http.post("/keys", json=KEY), lambda _: e.http.post("/keys/app/rotate")),
    ),
    "POST /api/v1/webhooks": (
        EventKind.WEBHOOK_ADDED,
        lambda e: e.http.post("/webhooks", json={"url": e.receiver.url}),
    ),
    "PATCH /api/v1/webhooks/{webhook}": (
        EventKind.WEBHOOK_CHANGED,
        lambda e: _after(
            e.webhook(), lambda w: e.http.patch(f"/webhooks/{w}", json={"enabled": False})
        ),
    ),
    "DELETE /api/v1/webhooks/{webhook}": (
        EventKind.WEBHOOK_REMOVED,
        lambda e: _after(e.webhook(), lambda w: e.http.delete(f"/webhooks/{w}")),
    ),
    "POST /api/v1/webhooks/{webhook}/rotate-secret": (
        EventKind.WEBHOOK_CHANGED,
        lambda e: _after(e.webhook(), lambda w: e.http.post(f"/webhooks/{w}/rotate-secret")),
    ),
    "POST /api/v1/webhooks/{webhook}/deliveries/{delivery}/retry": (
        EventKind.WEBHOOK_RETRIED,
        _retry,
    ),
    "POST /api/v1/tenants": (EventKind.TENANT_CREATED, _tenant),
    "PATCH /api/v1/tenants/{tenant}": (
        EventKind.TENANT_CHANGED,
        lambda e: _after(_tenant(e), lambda _: e.http.patch("/tenants/acme", json={"max_pins": 1})),
    ),
    "DELETE /api/v1/tenants/{tenant}": (
        EventKind.TENANT_DELETED,
        lambda e: _after(_tenant(e), lambda _: e.http.delete("/tenants/acme")),
    ),
    "PUT /api/v1/adapters/{name}/grants/{tenant}": (EventKind.GRANT_ADDED, _grant),
    "DELETE /api/v1/adapters/{name}/grants/{tenant}": (
        EventKind.GRANT_REMOVED,
        lambda e: _after(_grant(e), lambda _: e.http.delete("/adapters/bot/grants/acme")),
    ),
}


def changing_routes() -> list[str]:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    return [
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if method not in SAFE
    ]


def test_every_route_that_may_change_something_is_known_here() -> None:
    routes = set(changing_routes())
    assert len(routes) > 25
    assert routes == CHANGES.keys() | NO_EVENT.keys()
    assert not CHANGES.keys() & NO_EVENT.keys()


@pytest.fixture
async def everything(
    app: FastAPI,
    database: Database,
    service: RegistryService,
    make_adapter: AdapterMaker,
    receiver: Receiver,
) -> AsyncIterator[Everything]:
    cache, store = Cache(), ResidencyStore(database, "here")
    resolver = RegistryResolver(service.catalog)
    pins = PinService(cache.controller, store, resolver)
    steered = EngineCacheControl(cache.controller, pins, DecisionLog())
    keys = KeyService(database)
    key_routes = create_key_router(keys)
    tenant_routes = create_tenant_router(TenantService(database), keys)
    cache_routes = create_cache_router(steered, resolver, store)
    server_routes = create_server_router(ServerDirectory(database, "here"))
    take_in(app, key_routes, tenant_routes, cache_routes, server_routes)
    await ResidencyStore(database, "gone").open()
    await BaseService(database, unread_identity("other")).open()
    transport = httpx.ASGITransport(ClientAddressMiddleware(app), client=("192.0.2.7", 1))
    async with (
        running(cache),
        httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as http,
    ):
        await publish_some(http, make_adapter, "bot", 2)
        yield Everything(http, service, make_adapter, receiver)


async def recorded(database: Database) -> list[RecordedEvent]:
    watermark = EventWatermark(database)
    return await EventLog(database, watermark).between(
        0, await watermark.catch_up(), EventFilter(), 1000
    )


@pytest.mark.parametrize("route", CHANGES)
async def test_a_change_is_an_event_with_who_when_from_where_and_what(
    everything: Everything, database: Database, route: str
) -> None:
    kind, ask = CHANGES[route]
    if kind is EventKind.ADAPTER_IMPORTED:
        everything.archive = await _archive_of_another(everything)
    before = {one.id for one in await recorded(database)}
    began = now()
    answer = await ask(everything)
    assert answer.is_success, answer.text
    new = [one.event for one in await recorded(database) if one.id not in before]
    reported = [event for event in new if event.kind == kind and not event.imported]
    assert reported, f"{route} left {[event.kind for event in new]}"
    assert {(event.actor, event.address) for event in reported} == {("api", "192.0.2.7")}
    assert all(event.adapter_id or event.data for event in reported)
    assert all(began <= event.at <= now() for event in reported)


async def _archive_of_another(everything: Everything) -> bytes:
    """With an adapter that is not here: it is exported, and its name is another one then."""
    archive = (await everything.http.get("/export", params={"adapter": "bot"})).content
    assert archive
    return renamed(archive)


def renamed(archive: bytes) -> bytes:
    """The same export, of an adapter `new`."""
    entries: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            entries[member.name.replace("bot", "new")] = file.read()
    manifest = entries["adapters/new.json"].replace(b'"bot"', b'"new"')
    entries["adapters/new.json"], entries["events.jsonl"] = manifest, b""
    index = json.loads(entries["adaptry-export.json"])
    index["adapters"] = {"new": blake3(manifest).hexdigest()}
    index["events"] = blake3(b"").hexdigest()
    entries["adaptry-export.json"] = json.dumps(index).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
