"""`/resolve` caches its answers, yet every change is visible in the next one."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from registry.api.router import create_router
from registry.database.change_counter import SERVED_NAMES
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.models import Event, EventKind
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, publish_some, resolved, step
from tests.support.servers.asgi_server import take_in

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def other(service: RegistryService, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another server on the same database and store."""
    database = Database(database_url)
    second = RegistryService(database, service.store, service.base_model, max_rank=16)
    app = FastAPI()
    take_in(app, create_router(second))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield client
    await database.close()


async def shown(client: httpx.AsyncClient, reference: str) -> object:
    """What is answered, which is the same as is shown of the version."""
    answer = await client.get("/resolve", params={"reference": reference})
    assert answer.status_code == 200, answer.text
    version = answer.json()
    path = f"/adapters/{version['adapter']}/versions/{version['number']}"
    assert version == (await client.get(path)).json()
    return version


async def test_every_change_is_in_the_next_answer(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await client.put("/adapters/bot/aliases/prod", json={"version": 1})
    for reference in ("bot", "bot:1", "bot:2", "bot@prod"):
        await shown(client, reference)
    await client.put("/adapters/bot/aliases/prod", json={"version": 2})
    assert await resolved(client, "bot@prod") == 2
    await client.patch("/adapters/bot/versions/2", json={"add_tags": ["new"], "parent": "bot:1"})
    reported = await shown(client, "bot@prod")
    assert isinstance(reported, dict)
    assert (reported["tags"], reported["parent"]) == (["new"], "bot:1")
    await step(client, "bot:2", "deprecate", reason="old")
    reported = await shown(client, "bot@prod")
    assert isinstance(reported, dict)
    assert reported["state"] == "deprecated"
    await client.post("/adapters/bot/aliases/prod/rollback")
    assert await resolved(client, "bot@prod") == 1
    await step(client, "bot:2", "retire")
    refused = await client.get("/resolve", params={"reference": "bot:2"})
    assert_problem(refused, 410, "version_retired")
    await client.delete("/adapters/bot/aliases/prod")
    gone = await client.get("/resolve", params={"reference": "bot@prod"})
    assert_problem(gone, 404, "unknown_alias")


async def test_what_another_server_changes_is_seen_within_a_second_or_so(
    client: httpx.AsyncClient, other: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    assert await resolved(other, "bot") == await resolved(client, "bot") == 1
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    assert await resolved(client, "bot") == 2
    deadline = time.monotonic() + 10
    while await resolved(other, "bot") == 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_another_servers_change_of_one_adapter_keeps_the_answers_about_others(
    service: RegistryService,
    other: httpx.AsyncClient,
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
) -> None:
    for name in ("bot", "cat"):
        await publish_some(client, make_adapter, name, 1)
    database = service._database
    poller = ChangePoller(database, every_seconds=0)
    await poller.poll()
    before = database.changes.count
    await other.put("/adapters/cat/aliases/prod", json={"version": 1})
    await poller.poll()
    assert database.changes.last_change("cat") == before + 1
    assert database.changes.last_change("bot") <= before


async def test_another_servers_import_may_have_changed_what_served_names_mean(
    service: RegistryService, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    database = service._database
    poller = ChangePoller(database, every_seconds=0)
    await poller.poll()
    before = database.changes.count
    async with database.transaction(for_catalog=False) as session:  # which only a poll can see
        session.add(Event(actor="x", kind=EventKind.ADAPTER_IMPORTED, adapter_id=1))
    await poller.poll()
    assert database.changes.last_change(SERVED_NAMES) == before + 1


async def test_where_requests_follow_each_other_none_waits_for_a_look(
    service: RegistryService,
    other: httpx.AsyncClient,
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    database, now = service._database, 100.0
    poller = ChangePoller(database, every_seconds=10, clock=lambda: now)
    await poller.poll()
    before = database.changes.count
    await other.put("/adapters/bot/aliases/prod", json={"version": 1})
    now = 104.9  # too early
    await poller.poll()
    assert not poller.is_polling()
    now = 105.1
    await poller.poll()
    beside = poller._polling
    assert beside is not None
    assert poller.is_polling()
    assert database.changes.count == before  # not yet: no request waited
    now = 112.0
    await poller.poll()
    assert poller._polling is beside  # one is enough
    await beside
    assert database.changes.last_change("bot") == before + 1


async def test_after_a_pause_a_request_waits_for_a_look(
    service: RegistryService,
    other: httpx.AsyncClient,
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    database, now = service._database, 100.0
    poller = ChangePoller(database, every_seconds=10, clock=lambda: now)
    await poller.poll()
    before = database.changes.count
    await other.put("/adapters/bot/aliases/prod", json={"version": 1})
    now = 110.0
    await poller.poll()
    assert not poller.is_polling()
    assert database.changes.last_change("bot") == before + 1


async def test_more_changes_than_were_looked_at_end_all_answers(
    service: RegistryService, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    database = service._database
    poller = ChangePoller(database, every_seconds=0)
    await poller.poll()
    before = database.changes.count
    async with database.transaction(for_catalog=False) as session:
        session.add(Event(id=5000, actor="x", kind="x", adapter_id=None))
    await poller.poll()
    assert database.changes.last_change("bot") == before + 1
