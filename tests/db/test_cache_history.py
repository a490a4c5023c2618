"""Cache history store: rows of a server, written over, read by time, bounded by age and bytes."""

from collections.abc import AsyncIterator

import pytest

from registry.cache_history import CacheHistoryStore, HistoryBounds, HistoryRow, replica_name
from registry.database.engine import Database

MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


def row(minute: int, content: bytes = b"x", *, minutes: int = 1) -> HistoryRow:
    began = minute * MINUTE
    return HistoryRow(began, began + minutes * MINUTE, {"hits": minute}, content)


def store(
    database: Database, server: str = "here", *, keep_seconds: float = 3600, max_bytes: int = 1000
) -> CacheHistoryStore:
    return CacheHistoryStore(database, server, keep_seconds=keep_seconds, max_bytes=max_bytes)


async def test_a_row_grows_until_its_minute_ends(database: Database) -> None:
    history = store(database)
    await history.save(HistoryRow(MINUTE, MINUTE + 5, {"hits": 1}, b"short"))
    await history.save(row(1, b"longer"))
    assert await history.within("here", 0, 9 * MINUTE) == [row(1, b"longer")]
    assert await history.bounds("here") == HistoryBounds(MINUTE, 2 * MINUTE)


async def test_rows_are_found_by_time_and_only_those_of_the_server(database: Database) -> None:
    history = store(database)
    for minute in (1, 2, 5):
        await history.save(row(minute))
    await store(database, "other").save(row(3))
    assert await history.servers() == ["here", "other"]
    assert await history.last_before("here", 4 * MINUTE) == row(2), "and it ended before"
    assert await history.last_before("here", MINUTE - 1) is None
    assert await history.first_after("here", 4 * MINUTE) == 5 * MINUTE
    assert await history.first_after("here", 5 * MINUTE) is None
    found = await history.within("here", 2 * MINUTE + 1, 5 * MINUTE + 1, content=False)
    assert found == [row(2, b""), row(5, b"")]
    assert await history.within("here", 0, 9 * MINUTE, limit=1) == [row(1)]
    assert await history.bounds("nowhere") is None


async def test_what_is_too_old_is_deleted_also_of_a_server_that_is_gone(
    database: Database,
) -> None:
    history, gone = store(database, keep_seconds=600), store(database, "gone", keep_seconds=120)
    for minute in (1, 20):
        await history.save(row(minute))
    for minute in (1, 20):
        await gone.save(row(minute))
    await history.prune(22 * MINUTE)
    assert await history.within("here", 0, 99 * MINUTE) == [row(20)]
    assert len(await history.within("gone", 0, 99 * MINUTE)) == 2, "this clock may be ahead"
    await store(database, keep_seconds=10).prune(22 * MINUTE)
    assert await history.within("here", 0, 99 * MINUTE) == [], "a shorter time holds for old rows"
    await history.prune(22 * MINUTE + DAY)
    assert await history.within("gone", 0, 99 * MINUTE) == [row(20)]
    await history.prune(23 * MINUTE + 1 + DAY)
    assert await history.servers() == []


async def test_the_oldest_are_deleted_beyond_the_bytes_of_the_server(database: Database) -> None:
    history = store(database, max_bytes=250)
    for minute in range(1, 6):
        await history.save(row(minute, b"x" * 100))
    await store(database, "other").save(row(1, b"x" * 900))
    await history.prune(6 * MINUTE)
    assert [each.began_at // MINUTE for each in await history.within("here", 0, 9 * MINUTE)] == [
        4,
        5,
    ]
    assert len(await history.within("other", 0, 9 * MINUTE)) == 1
    await history.clear()
    assert await history.servers() == ["other"]


async def test_replicas_with_names_longer_than_the_table_allows_are_kept_apart(
    database: Database,
) -> None:
    """A server's name has up to 128 characters, and a host's up to 253."""
    server, host = "s" * 128, ".".join(["h" * 63] * 4)
    names = [replica_name(server, f"{host}:{port}") for port in (8000, 8001)]
    for minute, name in enumerate(names):
        await store(database, name).save(row(minute))
    fleet = store(database, server)
    assert await fleet.servers() == sorted(names)
    assert await fleet.replicas(server, 0, 9 * MINUTE) == sorted(names)
    assert await fleet.within(names[1], 0, 9 * MINUTE) == [row(1)]
    await fleet.clear()
    assert await fleet.servers() == []
