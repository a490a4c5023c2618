"""Fixtures: a database on SQLite whose changes wait for a disk that is under the test's control."""

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.database.engine import Database


class Disk:
    """A `Sync` that counts, waits for `free`, and fails on demand."""

    def __init__(self) -> None:
        self.syncs = 0
        self.free = threading.Event()
        self.free.set()
        self.error: OSError | None = None

    def sync(self, descriptor: int) -> None:
        assert Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == "registry.db-wal"
        self.free.wait(10)
        self.syncs += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def database(disk: Disk, tmp_path: Path) -> AsyncIterator[Database]:
    """With an empty table `t` of numbers."""
    opened = Database(f"sqlite:///{tmp_path}/registry.db", sync=disk.sync)
    async with opened.transaction() as session:
        await session.execute(text("CREATE TABLE t (n INTEGER)"))
    disk.syncs = 0
    yield opened
    disk.free.set()
    await opened.close()
