"""Servers on one PostgreSQL notify each other of changes; here they poll only once an hour."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.catalog.catalog import Catalog
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.events.postgres_notify import ChangeNotifier
from registry.models import Adapter, Event
from tests.support.databases.fixtures import EMPTY_ALL_TABLES
from tests.support.databases.postgres import PostgresServer

HOUR = 3600.0
LISTENERS = "FROM pg_stat_activity WHERE application_name = 'adaptry changes'"


@dataclass
class Server:
    database: Database
    catalog: Catalog
    notices: list[float] = field(default_factory=list)

    async def heard(self) -> None:
        self.notices.append(time.monotonic())
        await self.catalog.poll_changes_now()

    async def change(self, adapter: str) -> None:
        async with self.database.transaction(adapter=adapter) as session:
            row = Adapter(name=adapter)
            session.add(row)
            await session.flush()
            session.add(Event(kind="adapter.created", actor="tests", adapter_id=row.id))


@asynccontextmanager
async def server(url: str) -> AsyncIterator[Server]:
    database = Database(url)
    poller = ChangePoller(database, every_seconds=HOUR)
    await poller.poll()
    made = Server(database, Catalog(database, Path, poller))
    task = asyncio.create_task(ChangeNotifier(database, made.heard).run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while poller.is_polling():  # a poll that no request waits for
            await asyncio.sleep(0.01)
        await database.close()


@pytest.fixture
def url(migrated_postgres: PostgresServer) -> str:
    migrated_postgres.sql(EMPTY_ALL_TABLES, "migrated")
    return migrated_postgres.url("migrated")


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Server, Server]]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(server(url))
        other = await stack.enter_async_context(server(url))
        await until(lambda: bool(one.notices and other.notices))
        yield one, other


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_one_changes_the_other_knows_and_nothing_else_is_stale(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    before = other.database.changes.count
    await one.change("bot")
    await until(lambda: other.database.changes.last_change("bot") > before)
    assert other.database.changes.last_change("cat") <= before


async def test_a_server_is_not_notified_of_its_own_changes(pair: tuple[Server, Server]) -> None:
    one, other = pair
    reported_now = len(one.notices)
    for n in range(5):
        heard = len(other.notices)
        await one.change(f"bot-{n}")
        await until(lambda heard=heard: len(other.notices) > heard)  # type: ignore[misc]
    assert len(one.notices) == reported_now


async def test_changes_during_a_lost_connection_are_known_afterwards(
    pair: tuple[Server, Server], migrated_postgres: PostgresServer
) -> None:
    one, other = pair
    before = other.database.changes.count
    ended = migrated_postgres.sql(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
    assert ended.split() == ["t", "t"]
    await one.change("bot")
    await until(lambda: other.database.changes.last_change("bot") > before)
    heard = len(other.notices)
    await until(lambda: len(one.notices) > 1)  # it listens again too
    await one.change("cat")
    await until(lambda: len(other.notices) > heard)


async def test_on_sqlite_there_are_no_notifications(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(f"sqlite:///{tmp_path}/registry.db")

    async def heard() -> None:
        raise AssertionError("by whom?")

    running = asyncio.create_task(ChangeNotifier(database, heard).run())
    database.notify_change()
    async with database.read_session() as session:
        await session.execute(text("SELECT 1"))
    await asyncio.sleep(0.1)
    assert not running.done()
    assert not caplog.records, "it has not tried to connect to anything"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()
