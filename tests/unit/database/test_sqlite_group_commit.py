"""SQLite: each change is on the disk before anybody hears of it, and one fsync serves many."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.database import sqlite_group_commit
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from tests.unit.database.conftest import Disk


async def add(database: Database, n: int) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO t VALUES (:n)"), {"n": n})


async def count(database: Database) -> int:
    async with database.read_session() as session:
        found: int = (await session.execute(text("SELECT count(*) FROM t"))).scalar_one()
    return found


async def test_a_change_waits_for_the_disk(database: Database, disk: Disk) -> None:
    disk.free.clear()
    adding = asyncio.create_task(add(database, 1))
    await asyncio.sleep(0.1)
    assert not adding.done()
    disk.free.set()
    await adding
    assert disk.syncs == 1


async def test_concurrent_changes_share_an_fsync(database: Database, disk: Disk) -> None:
    disk.free.clear()
    adding = [asyncio.create_task(add(database, n)) for n in range(10)]
    while await committed(database) < 10:
        await asyncio.sleep(0.01)
    assert not any(task.done() for task in adding)
    disk.free.set()
    await asyncio.gather(*adding)
    assert disk.syncs == 2  # the first one's, and one for those that came while it went on


async def committed(database: Database) -> int:
    """As another process sees it, which does not wait for our disk."""
    with sqlite3.connect(str(database.url.database)) as other:
        (found,) = other.execute("SELECT count(*) FROM t").fetchone()
    other.close()
    return int(found)


async def test_no_session_reads_what_a_power_cut_could_undo(database: Database, disk: Disk) -> None:
    disk.free.clear()
    adding = asyncio.create_task(add(database, 1))
    while await committed(database) < 1:
        await asyncio.sleep(0.01)
    reading = asyncio.create_task(count(database))
    await asyncio.sleep(0.1)
    assert not reading.done()
    disk.free.set()
    assert await reading == 1
    await adding


async def test_reading_what_is_on_the_disk_waits_for_nothing(
    database: Database, disk: Disk
) -> None:
    await add(database, 1)
    disk.free.clear()
    assert await asyncio.wait_for(count(database), 30) == 1
    assert disk.syncs == 1


async def test_a_failing_disk_raises_in_each_session(database: Database, disk: Disk) -> None:
    disk.error = OSError(5, "Input/output error")
    with pytest.raises(DatabaseUnavailable):
        await add(database, 1)
    with pytest.raises(DatabaseUnavailable):  # it still is not known to be there
        await count(database)
    disk.error = None
    assert await count(database) == 1


async def test_a_change_that_is_given_up_while_it_waits_leaves_the_others_alone(
    database: Database, disk: Disk
) -> None:
    disk.free.clear()
    first, second = (asyncio.create_task(add(database, n)) for n in range(2))
    while await committed(database) < 2:
        await asyncio.sleep(0.01)
    first.cancel()
    disk.free.set()
    await second
    assert await count(database) == 2


async def test_one_that_waits_for_its_turn_and_is_given_up_does_not_hold_it(
    database: Database,
) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO t VALUES (1)"))
        waiting = asyncio.create_task(add(database, 2))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await add(database, 3)
    assert await count(database) == 2


async def test_a_copy_of_file_and_log_has_all_that_was_answered(
    database: Database, tmp_path: Path
) -> None:
    """The log as it is on disk, with no process to complete it."""
    await add(database, 1)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("registry.db", "registry.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    with sqlite3.connect(copy / "registry.db") as copied:
        assert copied.execute("SELECT count(*) FROM t").fetchone() == (1,)
    copied.close()


async def test_without_a_log_sqlite_syncs_itself() -> None:
    database = Database("sqlite://")
    async with database.transaction() as session:
        assert (await session.execute(text("PRAGMA synchronous"))).scalar_one() == 2  # FULL
    await database.close()


async def test_who_reads_during_a_commit_waits_for_a_sync_that_begins_later(
    database: Database, disk: Disk
) -> None:
    """The commit may have been written after the sync began that is under way."""
    log = database._log
    disk.free.clear()
    with log.commit():
        first = asyncio.create_task(log.wait_durable())
        await asyncio.sleep(0.1)  # its sync has begun
        second = asyncio.create_task(log.wait_durable())
        await asyncio.sleep(0)
        disk.free.set()
        await asyncio.gather(first, second)
    assert disk.syncs == 2


async def test_a_new_file_that_another_one_reads_gets_its_log_as_soon_as_that_ends(
    tmp_path: Path,
) -> None:
    """As when two servers start on it: SQLite lets the second one change the mode wait for none."""
    reader = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    reader.execute("CREATE TABLE t (n INTEGER)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    database = Database(f"sqlite:///{tmp_path}/new.db")
    opened = asyncio.create_task(database.ping())
    await asyncio.wait([opened], timeout=0.2)
    assert not opened.done()
    reader.execute("COMMIT")
    await opened
    reader.close()
    assert database._log.path == tmp_path / "new.db-wal"
    await database.close()


async def test_a_change_does_not_wait_for_ever_for_a_disk_that_hangs(
    database: Database, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have happened all the same: the next session finds it once the disk is back."""
    monkeypatch.setattr(sqlite_group_commit, "SYNC_TIMEOUT_SECONDS", 0.2)
    disk.free.clear()
    with pytest.raises(DatabaseUnavailable, match="disk"):
        async with asyncio.timeout(30):
            await add(database, 1)
    disk.free.set()
    assert await count(database) == 1
