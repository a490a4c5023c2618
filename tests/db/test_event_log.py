"""The event log on both databases: nothing but additions, and no event lost for coming late."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import chain

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry.database.engine import Database
from registry.database.migrate import alembic_config
from registry.errors import UnknownVersion
from registry.events.log import EventLog
from registry.events.repository import EventFilter
from registry.events.watermark import EventWatermark
from registry.models import Event, EventKind

pytestmark = pytest.mark.both_databases

EVERYTHING = EventFilter()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def other_server(database_url: str) -> AsyncIterator[Database]:
    """A second process on the same tables, from the database's view."""
    opened = Database(database_url)
    yield opened
    await opened.close()


def event(actor: str = "somebody") -> Event:
    return Event(actor=actor, kind=EventKind.ALIAS_MOVED)


async def write(database: Database, *actors: str) -> None:
    async with database.transaction() as session:
        session.add_all([event(actor) for actor in actors])


async def actors(log: EventLog, after: int = 0) -> list[str]:
    found = await log.between(after, log.watermark.position, EVERYTHING, 1000)
    return [recorded.event.actor for recorded in found]


NOW = "'2026-01-01 00:00:00'"
COLUMNS = "at, actor, kind, data, imported"
CHANGED = "at, 'nobody', kind, data, imported FROM event"
UPSERT = (
    f"INSERT INTO event (uid, {COLUMNS}) SELECT uid, {CHANGED} WHERE true"
    " ON CONFLICT (uid) DO UPDATE SET actor = 'nobody'"
)


@pytest.mark.parametrize(
    ("database_kind", "statement"),
    [
        ("sqlite", "UPDATE event SET actor = 'nobody'"),
        ("sqlite", "UPDATE event SET id = id + 100"),
        ("sqlite", "DELETE FROM event"),
        ("sqlite", f"REPLACE INTO event (id, uid, {COLUMNS}) SELECT id, 'other', {CHANGED}"),
        ("sqlite", f"REPLACE INTO event (uid, {COLUMNS}) SELECT uid, {CHANGED}"),
        ("sqlite", UPSERT),
        ("postgresql", "UPDATE event SET actor = 'nobody'"),
        ("postgresql", "DELETE FROM event"),
        ("postgresql", "TRUNCATE event CASCADE"),
        ("postgresql", UPSERT),
    ],
)
async def test_no_statement_changes_what_is_written(database: Database, statement: str) -> None:
    await write(database, "first")
    async with database._sessions() as session:
        with pytest.raises(DBAPIError, match="events are only ever added"):
            await session.execute(text(statement))
    log = EventLog(database, EventWatermark(database))
    await log.watermark.catch_up()
    assert await actors(log) == ["first"]


async def test_an_event_is_written_with_its_change_or_not_at_all(database: Database) -> None:
    with pytest.raises(UnknownVersion):
        await _write_and_fail(database)
    assert await EventWatermark(database).catch_up() == 0


async def _write_and_fail(database: Database) -> None:
    async with database.transaction() as session:
        session.add(event())
        await session.flush()
        raise UnknownVersion("a", 1)


async def test_older_events_get_an_identity_and_are_kept_from_then_on(empty_database: str) -> None:
    config = alembic_config(empty_database)
    await asyncio.to_thread(command.upgrade, config, "d622580f067d")
    database = Database(empty_database)
    async with database.transaction() as session:
        await session.execute(text(f"INSERT INTO adapter (name, created_at) VALUES ('a', {NOW})"))
        for actor in ("first", "second"):
            row = f"({NOW}, '{actor}', 'alias.moved', 1)"
            columns = "at, actor, kind, adapter_id"
            await session.execute(text(f"INSERT INTO event ({columns}) VALUES {row}"))
    log = EventLog(database, EventWatermark(database))
    uids: set[str] = set()
    for _ in range(2):
        await asyncio.to_thread(command.upgrade, config, "head")
        await log.watermark.catch_up()
        found = await log.between(0, log.watermark.position, EVERYTHING, 10)
        assert [(r.event.actor, r.adapter, r.event.data) for r in found] == [
            ("first", "a", {}),
            ("second", "a", {}),
        ]
        uids |= {r.event.uid for r in found}
        async with database._sessions() as session:
            with pytest.raises(DBAPIError, match="events are only ever added"):
                await session.execute(text("DELETE FROM event"))
        await database.close()  # no connection may stand in the migration's way
        await asyncio.to_thread(command.downgrade, config, "d622580f067d")
    assert len(uids) == 4
    assert {len(uid) for uid in uids} == {32}


class Writer:
    """A transaction that has written an event and is still open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._end = asyncio.Event()
        self._written = asyncio.Event()
        self._rolls_back = False

    async def begin(self, actor: str) -> None:
        self._task = asyncio.create_task(self._write(actor))
        await self._written.wait()

    async def _write(self, actor: str) -> None:
        async with self._database._sessions() as session:
            session.add(event(actor))
            await session.flush()
            self._written.set()
            await self._end.wait()
            await (session.rollback() if self._rolls_back else session.commit())

    async def end(self, *, rolls_back: bool = False) -> None:
        self._rolls_back = rolls_back
        self._end.set()
        await self._task


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("rolls_back", [False, True], ids=["commit", "rollback"])
async def test_an_event_waits_for_the_writers_that_began_before_it(
    database: Database, other_server: Database, rolls_back: bool
) -> None:
    log = EventLog(database, EventWatermark(database))
    slow, late = Writer(other_server), Writer(other_server)
    await slow.begin("slow")
    await write(database, "quick")
    assert await log.watermark.catch_up(0.1) == 0
    catching_up = asyncio.create_task(log.watermark.catch_up())
    await asyncio.sleep(0.1)
    await late.begin("late")  # no reader has to wait for this one
    assert not catching_up.done()
    await slow.end(rolls_back=rolls_back)
    assert await asyncio.wait_for(catching_up, 10) == 2
    assert await actors(log) == (["quick"] if rolls_back else ["slow", "quick"])
    await late.end()
    await log.watermark.catch_up()
    assert (await actors(log, after=2)) == ["late"]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_long_transaction_that_writes_no_event_blocks_no_reader(
    database: Database, other_server: Database
) -> None:
    async with other_server._sessions() as session:
        await session.execute(text("INSERT INTO adapter (name, created_at) VALUES ('a', now())"))
        await write(database, "quick")
        assert await EventWatermark(database).catch_up(0.1) == 1


async def test_no_reader_loses_or_repeats_an_event_of_many_writers(
    database: Database, other_server: Database
) -> None:
    feeds = [
        EventWatermark(database, poll_seconds=0.05),
        EventWatermark(other_server, poll_seconds=0.05),
    ]
    running = [asyncio.create_task(watermark.run()) for watermark in feeds]
    done = asyncio.Event()
    readers = [
        asyncio.create_task(_read(EventLog(database, feeds[0]), done)),
        asyncio.create_task(_read(EventLog(other_server, feeds[1]), done)),
    ]
    writers = [(database, seed) for seed in range(3)] + [(other_server, 9 + n) for n in range(3)]
    kept = await asyncio.gather(*(_write_some(where, seed) for where, seed in writers))
    done.set()
    for reader in readers:
        seen = await reader
        assert [id_ for id_, _ in seen] == sorted({id_ for id_, _ in seen})
        assert sorted(actor for _, actor in seen) == sorted(chain(*kept))
    for watermark in feeds:
        watermark.close()
    await asyncio.gather(*running)


async def _read(log: EventLog, done: asyncio.Event) -> list[tuple[int, str]]:
    """As a stream does: pages, each after the last event seen."""
    seen: list[tuple[int, str]] = []
    last = 0
    while True:
        ending = done.is_set()
        if ending:
            await log.watermark.catch_up()
        found = await log.between(last, log.watermark.position, EVERYTHING, 7)
        seen += [(recorded.id, recorded.event.actor) for recorded in found]
        if found:
            last = found[-1].id
        elif ending:
            return seen
        else:
            await log.watermark.wait_beyond(last, 0.05)


async def _write_some(database: Database, seed: int) -> list[str]:
    """Transactions of one to three events that take their time; every fourth is given up."""
    chance = random.Random(seed)
    kept: list[str] = []
    for number in range(25):
        names = [f"{seed}-{number}-{n}" for n in range(chance.randint(1, 3))]
        try:
            async with database.transaction() as session:
                for name in names:
                    session.add(event(name))
                    await session.flush()
                    await asyncio.sleep(chance.random() / 200)
                if number % 4 == 3:
                    raise RuntimeError
        except RuntimeError:
            continue
        kept += names
    return kept
