"""Rates that servers count together in a table: exact, swept, and kept up during an outage."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from registry.database.engine import Database
from registry.models import RateCount
from registry.rates.database_storage import DatabaseStorage
from registry.rates.windows import MINUTE, RateWindows


@pytest.fixture
async def servers(database_url: str) -> AsyncIterator[list[Database]]:
    while time.time() % MINUTE > MINUTE - 10:  # else the sums would be split over two minutes
        await asyncio.sleep(0.2)
    databases = [Database(database_url) for _ in range(2)]
    yield databases
    for database in databases:
        await database.close()


@pytest.mark.both_databases
async def test_no_more_is_taken_at_the_same_time_than_there_is(servers: list[Database]) -> None:
    windows = [RateWindows(DatabaseStorage(database)) for database in servers]
    taken = await asyncio.gather(*(windows[n % 2].take("key ci", 10, 3) for n in range(12)))
    assert sum(taken) == 3, "three times 3 of 10"
    assert await windows[0].take("key ci", 10, 1)
    assert (await windows[0].state("key ci", 10)).remaining == 0


@pytest.mark.both_databases
async def test_a_correction_by_one_server_counts_at_the_other(servers: list[Database]) -> None:
    one, other = (RateWindows(DatabaseStorage(database)) for database in servers)
    assert await one.take("tokens of key ci", 100, 90)
    assert not await other.take("tokens of key ci", 100, 20)
    await one.correct("tokens of key ci", 100, one.minute(), -80)
    assert await other.take("tokens of key ci", 100, 20)
    assert (await other.state("tokens of key ci", 100)).remaining == 70


@pytest.mark.both_databases
async def test_what_counts_no_more_is_deleted(servers: list[Database]) -> None:
    database = servers[0]
    old = RateCount(name="old", used=5, expires_at=int(time.time()) - 1)
    async with database.transaction() as session:
        session.add(old)
    assert await RateWindows(DatabaseStorage(database)).take("key ci", 10, 1)
    async with database.read_session() as session:
        rows = (await session.execute(select(func.count()).select_from(RateCount))).scalar_one()
    assert rows == 1


async def test_during_an_outage_each_server_counts_on_its_own() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    windows = RateWindows(DatabaseStorage(database))
    assert [await windows.take("key ci", 2, 1) for _ in range(3)] == [True, True, False]
    await database.close()
