"""What a tenant may not see, where it is not a name in a path: parents, files, jobs, streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from registry.api.events import create_event_router
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.events.log import EventLog
from registry.events.stream import EventStreams
from registry.events.watermark import EventWatermark
from registry.http.authentication import AuthenticationMiddleware
from registry.http.sse import StreamLimits
from registry.ingest.service import IngestService
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.api.conftest import AdapterMaker
from tests.api.keyed_client import Asked
from tests.support.servers.asgi_server import serving, take_in

pytestmark = pytest.mark.both_databases

PATIENCE_SECONDS = 30
Json = dict[str, Any]


@pytest.fixture
def ingest(service: RegistryService) -> IngestService:
    """Makes a job of everything; tests say when it is worked on."""
    sources = RemoteSources((), EgressGuard())
    settings = RegistrySettings(max_direct_bytes=0)
    return IngestService(service.registrar, service._database, service.store, sources, settings)


@dataclass
class Tenants:
    """`acme` and `other`, each with a key for everything."""

    asked: Asked
    ingest: IngestService

    async def register(self, key: str, name: str, source: object, **details: Any) -> Json:
        """The job, ended."""
        return await self.ended(key, await self.queue(key, name, source, **details))

    async def queue(self, key: str, name: str, source: object, **details: Any) -> int:
        body = {"source": str(source), **details}
        response = await self.asked.ask(key, "POST", f"/adapters/{name}/versions", json=body)
        assert response.status_code == 202, response.text
        return int(response.json()["id"])

    async def ended(self, key: str, job: int) -> Json:
        working = asyncio.create_task(self.ingest.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (found := await self.get(key, f"/jobs/{job}"))["finished_at"] is None:
                    await asyncio.sleep(0.02)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return found

    async def get(self, key: str, path: str) -> Json:
        response = await self.asked.ask(key, "GET", path)
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found


@pytest.fixture
async def tenants(asked: Asked, ingest: IngestService) -> Tenants:
    for tenant in ("acme", "other"):
        made = await asked.ask("root", "POST", "/tenants", json={"name": tenant})
        assert made.status_code == 201, made.text
        await asked.key(f"{tenant}~boss", *Scope)
    return Tenants(asked, ingest)


async def test_a_job_reads_what_was_asked_for_and_not_what_another_has_under_that_path(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    """`acme/one` is `other/acme/one` for a key of `other`, at the request and in the job."""
    make_adapter("acme/one", rank=2)
    make_adapter("other/acme/one", rank=4)
    job = await tenants.register("other~boss", "other~bot", "acme/one")
    assert job["state"] == "succeeded", job
    assert (await tenants.get("other~boss", "/adapters/other~bot/versions/1"))["rank"] == 4


async def test_a_job_takes_no_parent_whose_grant_has_ended_since(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    await tenants.register("root", "acme~secret", make_adapter("one"))
    await tenants.asked.ask("acme~boss", "PUT", "/adapters/acme~secret/grants/other")
    source = make_adapter("other/two", seed=1)
    queued = await tenants.queue("other~boss", "other~bot", source, parent="acme~secret:1")
    await tenants.asked.ask("acme~boss", "DELETE", "/adapters/acme~secret/grants/other")
    job = await tenants.ended("other~boss", queued)
    assert (job["state"], job["code"]) == ("failed", "unknown_adapter")
    assert job["detail"] == "there is no adapter 'acme~secret'"


async def test_a_parent_is_shown_for_as_long_as_it_is_granted(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    """Also where answers are kept: those of one caller are not another's."""
    asked, grant = tenants.asked, "/adapters/acme~secret/grants/other"
    await tenants.register("root", "acme~secret", make_adapter("one"))
    made_from = {"parent": "acme~secret:1"}
    await tenants.register("root", "other~bot", make_adapter("two", seed=1), **made_from)

    async def shown(key: str) -> set[str | None]:
        """By every route that shows a version."""
        answers = [
            await tenants.get(key, "/resolve?reference=other~bot"),
            await tenants.get(key, "/adapters/other~bot/versions/1"),
            (await tenants.get(key, "/adapters/other~bot/versions"))["items"][0],
            (await tenants.get(key, "/versions?text=bot"))["items"][0],
        ]
        found = await tenants.get(key, "/versions?parent=acme~secret:1")
        assert bool(found["items"]) == (answers[0]["parent"] is not None)
        return {answer["parent"] for answer in answers}

    for _ in range(2):
        assert await shown("other~boss") == {None}
        assert await shown("root") == {"acme~secret:1"}
        assert (await asked.ask("acme~boss", "PUT", grant)).status_code == 200
        assert await shown("other~boss") == {"acme~secret:1"}
        assert (await asked.ask("acme~boss", "DELETE", grant)).status_code == 204
    hidden = await asked.ask("other~boss", "GET", "/versions?parent=acme~secret:1")
    missing = await asked.ask("other~boss", "GET", "/versions?parent=acme~nothing:1")
    assert hidden.json() == missing.json() == {"items": [], "next_page_token": None}


async def test_nothing_reveals_that_another_tenant_has_the_same_files(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    for tenant in ("acme", "other"):
        source = make_adapter(f"{tenant}/same")
        job = await tenants.register(f"{tenant}~boss", f"{tenant}~bot", source)
        assert (job["created"], job["version"]) == (True, f"{tenant}~bot:1")
    size_bytes = (await tenants.get("acme~boss", "/adapters/acme~bot/versions/1"))["size_bytes"]
    for tenant in ("other", "acme"):
        steps = f"/adapters/{tenant}~bot/versions/1"
        ask = tenants.asked.ask
        await ask(f"{tenant}~boss", "POST", f"{steps}/retire", json={"force": True})
        await ask(f"{tenant}~boss", "DELETE", f"/adapters/{tenant}~bot/aliases/default")
        purged = await ask(f"{tenant}~boss", "POST", f"{steps}/purge")
        assert purged.json()["freed_bytes"] == size_bytes, purged.text


async def test_files_that_the_tenant_itself_still_needs_are_not_reported_as_freed(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    for name in ("other~one", "other~two"):
        await tenants.register("other~boss", name, make_adapter(name.replace("~", "/")))
    ask = tenants.asked.ask
    await ask("other~boss", "POST", "/adapters/other~one/versions/1/retire", json={"force": True})
    await ask("other~boss", "DELETE", "/adapters/other~one/aliases/default")
    purged = await ask("other~boss", "POST", "/adapters/other~one/versions/1/purge")
    assert (purged.status_code, purged.json()["freed_bytes"]) == (200, 0), purged.text


async def test_jobs_of_others_do_not_exist(tenants: Tenants, make_adapter: AdapterMaker) -> None:
    job = await tenants.queue("root", "acme~secret", make_adapter("one"))
    for method, path in (("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel")):
        answers = []
        for number in (job, job + 1000):
            answer = await tenants.asked.ask("other~boss", method, path.format(number))
            recorded = answer.text.replace(f"job {number}", "").replace(f"jobs/{number}", "")
            answers.append((answer.status_code, recorded))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    for query in ("", "?adapter=acme~secret", "?state=queued"):
        assert (await tenants.get("other~boss", f"/jobs{query}"))["items"] == []
    for query in ("", "?adapter=acme~secret", "?tenant=acme", "?tenant=other"):
        told = await tenants.asked.ask("other~boss", "POST", f"/jobs/cancel{query}")
        assert (told.status_code, told.json()) == (200, {"cancelled": 0, "more": False})
    assert (await tenants.get("acme~boss", "/jobs"))["items"][0]["state"] == "queued"
    assert (await tenants.get("acme~boss", "/jobs?tenant=acme"))["items"]
    assert (await tenants.get("acme~boss", "/jobs?tenant=other"))["items"] == []


async def test_a_tenant_that_reuses_a_name_does_not_see_its_jobs(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    ask, says = tenants.asked.ask, tenants.asked.says
    await ask("root", "POST", "/tenants", json={"name": "third"})
    job = await tenants.queue("root", "third~secret", make_adapter("one"))
    assert await says("root", "DELETE", "/tenants/third") == (409, "tenant_not_empty")
    await ask("root", "POST", f"/jobs/{job}/cancel")
    assert (await ask("root", "DELETE", "/tenants/third")).status_code == 204
    await ask("root", "POST", "/tenants", json={"name": "third"})
    await tenants.asked.key("third~boss", *Scope)
    assert (await tenants.get("third~boss", "/jobs"))["items"] == []
    assert await says("third~boss", "GET", f"/jobs/{job}") == (404, "unknown_job")


async def test_a_tenant_can_not_learn_which_tenants_exist(
    tenants: Tenants, make_adapter: AdapterMaker
) -> None:
    await tenants.register("root", "acme~bot", make_adapter("one"))
    grants = "/adapters/acme~bot/grants"
    ask, says = tenants.asked.ask, tenants.asked.says
    for tenant in ("other", "nobody"):
        granted = await ask("acme~boss", "PUT", f"{grants}/{tenant}")
        assert (granted.status_code, granted.json()["tenant"]) == (200, tenant)
        assert (await ask("acme~boss", "DELETE", f"{grants}/{tenant}")).status_code == 204
        assert (await ask("acme~boss", "DELETE", f"{grants}/{tenant}")).status_code == 204
    assert await says("root", "PUT", f"{grants}/nobody") == (404, "unknown_tenant")
    assert await says("acme~boss", "PUT", f"{grants}/acme") == (400, "invalid_reference")
    assert await says("acme~boss", "PUT", f"{grants}/{'x' * 33}") == (400, "invalid_reference")
    for tenant in ("other", "nobody"):
        assert await says("acme~boss", "GET", f"/tenants/{tenant}") == (404, "unknown_tenant")


async def test_a_grant_is_to_read_and_not_to_change(
    tenants: Tenants, app: FastAPI, make_adapter: AdapterMaker
) -> None:
    """On every route of an adapter; what was granted and taken back was never there."""
    await tenants.register("root", "acme~bot", make_adapter("one"))
    given = {"name": "acme~bot", "number": 1, "alias": "default", "tenant": "other"}
    routes = [
        (method.upper(), path.removeprefix("/api/v1").format_map(given))
        for path, item in app.openapi()["paths"].items()
        for method in item
        if path.startswith("/api/v1/adapters/{name}")
    ]
    owners_only = [path for _, path in routes if path.endswith(("/grants", "/events", "/files"))]
    assert len(routes) > 15
    assert len(owners_only) == 3
    await tenants.asked.ask("acme~boss", "PUT", "/adapters/acme~bot/grants/other")
    for method, path in routes:
        answer = await tenants.asked.says("other~boss", method, path)
        readable = method == "GET" and path not in owners_only
        assert answer == ((200, "") if readable else (403, "not_owner")), (method, path)
    await tenants.asked.ask("acme~boss", "DELETE", "/adapters/acme~bot/grants/other")
    for method, path in routes:
        answer = await tenants.asked.says("other~boss", method, path)
        assert answer == (404, "unknown_adapter"), (method, path)


# ---- the stream ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def event_server(database: Database, keys: KeyService) -> AsyncIterator[str]:
    """That shows a sign of life after a tenth of a second without an event of the reader's."""
    feed = EventWatermark(database, poll_seconds=0.05)
    log = EventLog(database, feed)
    app = FastAPI()
    take_in(app, create_event_router(log, EventStreams(log, StreamLimits(heartbeat_seconds=0.1))))
    app.add_middleware(AuthenticationMiddleware, authenticate=keys.authenticate)
    following = asyncio.create_task(feed.run())
    try:
        async with serving(app) as url:
            yield url
            feed.close()
    finally:
        await following


async def lines_of_stream(url: str, key: str, signs_of_life: int) -> list[str]:
    """From the first event on, until so many signs of life have come."""
    lines: list[str] = []
    path, headers = f"{url}/api/v1/events/stream", {"authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http,
        http.stream("GET", path, params={"after": 0}, headers=headers) as response,
    ):
        assert response.status_code == 200
        async for line in response.aiter_lines():
            lines.append(line)
            if lines.count(": alive") >= signs_of_life:
                break
    return lines


async def test_a_stream_sends_a_tenant_its_own_events_and_hides_how_many_others_there_are(
    tenants: Tenants, database: Database, make_adapter: AdapterMaker
) -> None:
    await tenants.register("root", "acme~secret", make_adapter("one"))
    await tenants.register("root", "other~bot", make_adapter("two"))
    own = (await tenants.get("other~boss", "/events"))["items"]
    assert {event["adapter"] for event in own} == {"other~bot"}
    everything = (await tenants.get("root", "/events"))["items"]
    assert len(everything) > len(own)

    async def keep_changing() -> None:
        for n in range(10_000):
            change = {"description": f"secret {n}"}
            said = await tenants.asked.says("root", "PATCH", "/adapters/acme~secret", json=change)
            assert said == (200, "")

    async with event_server(database, KeyService(database)) as url:
        changing = asyncio.create_task(keep_changing())
        lines = await lines_of_stream(url, tenants.asked.texts["other~boss"], 4)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
    ids = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
    assert ids == ["0", *(str(event["id"]) for event in own)]
    assert "secret" not in "\n".join(lines)
