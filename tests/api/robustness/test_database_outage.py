"""When the database goes away: 503 with a code, nothing lost, and back as soon as it is."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from engine.resolver import RegistryResolver
from registry.api.router import create_router
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.errors import DatabaseUnavailable
from registry.inspection.base_model import BaseModel
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from tests.api.helpers import AdapterMaker, assert_problem, publish, publish_some
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.asgi_server import take_in

pytestmark = pytest.mark.only_postgresql

QUESTIONS = ("/adapters", "/versions", "/adapters/bot", "/resolve?reference=bot")


async def restarted(postgres: PostgresServer) -> None:
    await asyncio.to_thread(postgres.start)


@pytest.fixture
async def killable(postgres: PostgresServer) -> AsyncIterator[PostgresServer]:
    """Runs again after the test, however that ended."""
    yield postgres
    try:
        await asyncio.to_thread(postgres.sql, "SELECT 1")
    except Exception:
        await restarted(postgres)


async def test_a_killed_postgresql_is_a_503_until_it_is_back(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    killable: PostgresServer,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    source = make_adapter("later", seed=5)
    killable.kill()
    for _ in range(2):
        for question in QUESTIONS:
            assert_problem(await client.get(question), 503, "database_unavailable")
        assert_problem(await publish(client, "bot", source), 503, "database_unavailable")
        moved = await client.put("/adapters/bot/aliases/x", json={"version": 1})
        assert_problem(moved, 503, "database_unavailable")
        with pytest.raises(DatabaseUnavailable):
            await service.ping()
    starting = asyncio.create_task(restarted(killable))
    while not starting.done():  # also while it says that it is still starting
        response = await client.get("/adapters/bot")
        if response.status_code != 200:
            assert_problem(response, 503, "database_unavailable")
        await asyncio.sleep(0.01)
    await starting
    assert [a["name"] for a in (await client.get("/adapters")).json()["items"]] == ["bot"]
    assert (await publish(client, "bot", source)).json()["number"] == 2


async def test_a_stopped_postgresql_blocks_no_request_for_long(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    database_url: str,
    killable: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    database = Database(database_url)
    await database.ping()
    monkeypatch.setattr("registry.database.engine.SESSION_TIMEOUT_SECONDS", 0.2)
    with killable.standing_still():
        async with asyncio.timeout(30):  # asyncpg would give each of them up after a minute
            for question in QUESTIONS:
                assert_problem(await client.get(question), 503, "database_unavailable")
            with pytest.raises(DatabaseUnavailable):
                async with database.transaction():
                    pass
    monkeypatch.undo()
    async with database.transaction():
        pass
    await database.close()
    for question in QUESTIONS:
        assert (await client.get(question)).status_code == 200


async def test_what_was_under_way_when_it_was_killed_is_a_503(
    database_url: str, killable: PostgresServer
) -> None:
    database = Database(database_url)

    async def work() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT pg_sleep(30)"))

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(0.5)
    killable.kill()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    await restarted(killable)
    await asyncio.gather(*(database.ping() for _ in range(10)))
    await database.close()


async def test_requests_go_on_for_what_was_asked_before(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    killable: PostgresServer,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await publish_some(client, make_adapter, "other", 1)
    resolver = RegistryResolver(service.catalog)
    before = await resolver.resolve("bot")
    shown = (await client.get("/resolve?reference=bot")).json()
    await client.put("/adapters/other/aliases/x", json={"version": 1})  # of another adapter
    killable.kill()
    await asyncio.sleep(1.1)  # by now it looks for changes again, in vain
    assert await resolver.resolve("bot") == before
    assert (await client.get("/resolve?reference=bot")).json() == shown
    with pytest.raises(DatabaseUnavailable):
        await resolver.resolve("bot:1")


@pytest.fixture
async def sqlite_client(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """Routes over a SQLite file that has not been opened yet."""
    path = tmp_path / "broken.db"
    database = Database(f"sqlite:///{path}")
    store = ArtifactStore(tmp_path / "store", source_roots=[], max_bytes=1)
    service = RegistryService(database, store, BaseModel("tiny", None), max_rank=8)
    app = FastAPI()
    take_in(app, create_router(service))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield client, path
    await database.close()


async def test_a_sqlite_file_that_can_not_be_opened_is_a_503_until_it_can(
    sqlite_client: tuple[httpx.AsyncClient, Path],
) -> None:
    client, path = sqlite_client
    path.mkdir()
    for _ in range(2):
        assert_problem(await client.get("/adapters"), 503, "database_unavailable")
    path.rmdir()
    path.write_text("this is no database, and longer than the header of one would be " * 20)
    assert_problem(await client.get("/adapters"), 503, "database_unavailable")
    with pytest.raises(DatabaseUnavailable):
        await asyncio.to_thread(upgrade, f"sqlite:///{path}")
    path.unlink()
    await asyncio.to_thread(upgrade, f"sqlite:///{path}")
    assert (await client.get("/adapters")).json() == {"items": [], "next_page_token": None}


async def test_readers_of_a_sqlite_file_do_not_wait_for_a_writer(
    sqlite_client: tuple[httpx.AsyncClient, Path],
) -> None:
    client, path = sqlite_client
    await asyncio.to_thread(upgrade, f"sqlite:///{path}")
    assert (await client.get("/adapters")).status_code == 200
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert (await client.get("/adapters")).status_code == 200
    other.execute("ROLLBACK")
    other.close()


def test_migrating_a_database_that_is_not_there_says_so_in_one_line(
    postgres: PostgresServer,
) -> None:
    with pytest.raises(DatabaseUnavailable, match="can't be used now"):
        upgrade("postgresql://nobody@127.0.0.1:1/none")


async def test_a_postgresql_that_stands_still_holds_no_known_answer_up(
    database_url: str, postgres: PostgresServer
) -> None:
    database = Database(database_url)
    poller = ChangePoller(database, every_seconds=0)
    await poller.poll()
    with postgres.standing_still():
        for _ in range(3):
            await poller.poll()  # would take a minute to be given up
        assert poller.is_polling()
    while poller.is_polling():
        await asyncio.sleep(0.01)
    await database.close()
