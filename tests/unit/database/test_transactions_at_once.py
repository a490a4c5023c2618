"""Transactions that run at one go in the connection's thread: `Database.run`."""

import asyncio
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address, from_address
from registry.database.engine import Database
from tests.unit.database.conftest import Disk

ADD = text("INSERT INTO t VALUES (1)")


async def add(session: AsyncSession) -> int:
    await session.execute(ADD)
    return await count_in(session)


async def count_in(session: AsyncSession) -> int:
    found: int = (await session.execute(text("SELECT count(*) FROM t"))).scalar_one()
    return found


async def count(database: Database) -> int:
    async with database.read_session() as session:
        return await count_in(session)


async def test_it_is_committed_told_and_returned(database: Database) -> None:
    before = database.change_count
    assert await database.run(add, adapter="bot") == 1
    assert database.changes.last_change("bot") == database.change_count == before + 1
    assert await database.run(add, for_catalog=False) == 2
    assert database.change_count == before + 1
    assert await count(database) == 2


async def test_one_after_the_other_has_the_connection_that_knows_the_pages(
    database: Database,
) -> None:
    async with database.read_session() as one, database.read_session() as other:
        for session in (one, other):
            await count_in(session)
    used = set()
    for _ in range(3):
        used.add(await database.run(connection_of))
        async with database.read_session() as session:
            await count_in(session)
    assert len(used) == 1


async def connection_of(session: AsyncSession) -> int:
    """The driver's, by its address: it is open until the end."""
    await add(session)
    connection = session.sync_session.connection()
    return id(connection.connection.driver_connection)


async def test_it_waits_for_the_disk(database: Database, disk: Disk) -> None:
    disk.free.clear()
    adding = asyncio.create_task(database.run(add))
    await asyncio.sleep(0.1)
    reading = asyncio.create_task(count(database))
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in (adding, reading))
    disk.free.set()
    assert (await adding, await reading) == (1, 1)


async def test_what_nobody_was_told_of_is_waited_for_by_who_reads_it(
    database: Database, disk: Disk
) -> None:
    disk.free.clear()
    assert await database.run(add, is_told=False) == 1
    waiting = [asyncio.ensure_future(each) for each in (count(database), database.wait_durable())]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    disk.free.set()
    assert await asyncio.gather(*waiting) == [1, None]


async def test_work_that_fails_leaves_nothing(database: Database) -> None:
    async def fail(session: AsyncSession) -> None:
        await add(session)
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        await database.run(fail)
    assert await count(database) == 0
    assert await database.run(add) == 1


async def test_work_that_waits_for_something_else_is_refused(database: Database) -> None:
    async def wait(session: AsyncSession) -> None:
        await add(session)
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited for something else"):
        await database.run(wait)
    assert await count(database) == 0
    assert await database.run(add) == 1


async def test_it_runs_in_its_caller_s_context(database: Database) -> None:
    async def address(_: AsyncSession) -> str | None:
        return client_address()

    with from_address("192.0.2.1"):
        assert await database.run(address) == "192.0.2.1"


async def test_one_that_is_given_up_in_the_thread_is_committed_and_told(
    database: Database,
) -> None:
    begun, free = threading.Event(), threading.Event()

    async def add_slowly(session: AsyncSession) -> int:
        begun.set()
        free.wait(10)
        return await add(session)

    before = database.change_count
    adding = asyncio.create_task(database.run(add_slowly))
    assert await asyncio.to_thread(begun.wait, 10)
    adding.cancel()
    await asyncio.sleep(0.05)
    assert not adding.done(), "it would leave the connection to others in the middle"
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert database.change_count == before + 1
    assert await count(database) == 1
    assert await database.run(add) == 2
