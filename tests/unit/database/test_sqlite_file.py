"""The file of an SQLite database: private, and noticed when it is deleted or replaced."""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.errors import DatabaseUnavailable
from registry.storage.store import ArtifactStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{file}")
    async with opened.transaction() as session:
        await session.execute(text("CREATE TABLE line (words TEXT)"))
    yield opened
    await opened.close()


async def write(database: Database, words: str) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO line VALUES (:words)"), {"words": words})


async def lines(database: Database) -> list[str]:
    async with database.read_session() as session:
        return list((await session.execute(text("SELECT words FROM line"))).scalars())


async def test_a_deleted_file_is_not_ready_and_refuses_writes_until_it_is_back(
    database: Database, file: Path
) -> None:
    await write(database, "kept")
    aside = file.with_name("aside.db")
    file.rename(aside)
    with pytest.raises(DatabaseUnavailable, match="was deleted"):
        await database.ping()
    with pytest.raises(DatabaseUnavailable, match="was deleted"):
        await write(database, "lost")
    assert not file.exists(), "no other one is created in its place"
    aside.rename(file)
    await database.ping()
    await write(database, "also kept")
    assert await lines(database) == ["kept", "also kept"]


async def test_a_further_connection_leaves_the_locks_of_the_others(
    database: Database, file: Path
) -> None:
    """Without them, another process that closes the file takes the log away from this one."""
    async with database.snapshot() as held:
        await held.execute(text("SELECT 1 FROM line"))
        await write(database, "through another connection")
        use = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])"
        use += "; c.execute('PRAGMA user_version')"
        code = f"{use}; c.close()"
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(file))
        assert await other.wait() == 0
        assert file.with_name(f"{file.name}-wal").exists()
        seen = f"{use}; print(*c.execute('SELECT words FROM line').fetchone())"
        later = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", seen, str(file)), stdout=asyncio.subprocess.PIPE
        )
        await write(database, "after it")
        assert (await later.communicate())[0] == b"through another connection\n"
        final = f"{use}; print(len(c.execute('SELECT words FROM line').fetchall()))"
        last = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", final, str(file)), stdout=asyncio.subprocess.PIPE
        )
        assert (await last.communicate())[0] == b"2\n"


async def test_a_replaced_file_is_not_ready_and_stays_as_it_is(
    database: Database, file: Path, tmp_path: Path
) -> None:
    await write(database, "old")
    other = tmp_path / "other.db"
    shutil.copy(file, other)
    content = other.read_bytes()
    os.replace(other, file)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="replaced"):
            await database.ping()
        with pytest.raises(DatabaseUnavailable, match="replaced"):
            await write(database, "to which of them?")
    assert file.read_bytes() == content


@pytest.mark.parametrize("what", ["deleted", "replaced"])
async def test_a_log_that_is_deleted_alone_is_not_ready_and_refuses_writes(
    database: Database, file: Path, what: str
) -> None:
    log = file.with_name(f"{file.name}-wal")
    await write(database, "in the log only")
    await database.ping()
    log.unlink()
    if what == "replaced":
        log.touch()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="log"):
            await database.ping()
        with pytest.raises(DatabaseUnavailable, match="log"):
            await write(database, "lost at the next start")


async def test_a_log_that_goes_with_the_last_connection_is_missed_by_no_one(
    database: Database, file: Path
) -> None:
    for _ in range(3):
        await write(database, "kept")
        await database.ping()
        await database._engine.dispose()
        assert not file.with_name(f"{file.name}-wal").exists()
        await database.ping()
    assert await lines(database) == ["kept"] * 3


async def test_new_connections_read_no_other_file(file: Path) -> None:
    opened = Database(f"sqlite:///{file}")
    try:
        await opened.ping()
        await opened._engine.dispose()
        file.unlink()
        with pytest.raises(DatabaseUnavailable, match="was deleted"):
            await lines(opened)
        assert not file.exists()
    finally:
        await opened.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_is_created_is_for_its_owner_alone(tmp_path: Path, file: Path) -> None:
    before = os.umask(0o022)
    try:
        await asyncio.to_thread(upgrade, f"sqlite:///{file}")
        opened = Database(f"sqlite:///{file}")
        async with opened.transaction() as session:
            await session.execute(text("CREATE TABLE line (words TEXT)"))
        names = [path.name for path in file.parent.iterdir()]
        assert "registry.db-wal" in names
        assert {mode(path) for path in file.parent.iterdir()} == {0o600}
        await opened.close()
        assert mode(file.parent) == 0o700
        store = ArtifactStore(tmp_path / "store", source_roots=(), max_bytes=1)
        store.open()
        assert mode(tmp_path / "store") == 0o700
    finally:
        os.umask(before)


async def test_what_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.touch()
    file.chmod(0o640)
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o750)
    opened = Database(f"sqlite:///{file}")
    await opened.ping()
    await opened.close()
    ArtifactStore(tmp_path / "store", source_roots=(), max_bytes=1).open()
    assert (mode(file), mode(tmp_path / "store")) == (0o640, 0o750)
