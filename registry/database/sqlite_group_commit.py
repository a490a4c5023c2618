"""Group commit for SQLite: durable, with one fsync for all concurrent commits.

With SQLite's own `synchronous=FULL` each commit waits for an fsync of its own: with one writer at a
time that is a few hundred commits a second at best. So with `synchronous=NORMAL` the write-ahead
log is synced here: every session that wrote or read waits for an fsync that started after it, while
the next one may already write. No client learns of a change that a power cut could still undo.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

BUSY_TIMEOUT_MS = 10_000
SYNC_TIMEOUT_SECONDS = 60.0  # a disk that is merely busy answers sooner
_RETRY_SECONDS = 0.01

Sync = Callable[[int], None]
"""Returns when everything written to the file with this descriptor is on the disk."""

sync_file: Sync = getattr(os, "fdatasync", os.fsync)  # as SQLite does; macOS has fsync only


class GroupCommit:
    """Syncs the write-ahead log of one database; without a log there is nothing to wait for."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self.path: Path | None = None
        self._committing = 0
        self._committed = 0
        self._synced = 0
        self._syncing: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def commit(self) -> Iterator[None]:
        """Enclose each commit. Others may read what it writes before the block ends."""
        self._committing += 1
        try:
            yield
        finally:
            self._committing -= 1
            self._committed += 1

    async def wait_durable(self) -> None:
        """Wait until everything readable before this call is on the disk.

        Raises OSError, such as TimeoutError; what was committed may still stay.
        """
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_SECONDS):
                await self._wait_durable()
        except TimeoutError:
            raise TimeoutError("its disk does not answer") from None

    async def _wait_durable(self) -> None:
        if self._committing:
            self._committed += 1  # a running sync may have started too early
        wanted = self._committed
        while self._synced < wanted:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.create_task(self._sync_once())
            await asyncio.shield(self._syncing)  # others wait for it too

    async def _sync_once(self) -> None:
        reached = self._committed
        if self.path is not None:
            await asyncio.to_thread(_sync_path, self.path, self._sync)
        self._synced = max(self._synced, reached)


def _sync_path(log: Path, sync: Sync) -> None:
    # The last connection to close has written all of it to the database, synced, and deletes it.
    with contextlib.suppress(FileNotFoundError):
        # SQLite's locks are on its other files: closing this one releases none of them.
        descriptor = os.open(log, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)


class ConnectionObserver(Protocol):
    def on_open(self, log: Path | None) -> None: ...
    def on_close(self) -> None: ...


def configure(
    engine: AsyncEngine, log: GroupCommit, observer: ConnectionObserver | None = None
) -> None:
    """Configure each new connection, and find the log's path. Then the observer is told."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # BEGIN is issued explicitly
        cursor: sqlite3.Cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        log.path = _wal_path(cursor)
        cursor.execute(f"PRAGMA synchronous={'FULL' if log.path is None else 'NORMAL'}")
        cursor.close()
        if observer is not None:
            observer.on_open(log.path)

    if observer is not None:
        event.listen(engine.sync_engine, "close", lambda *_: observer.on_close())


def _wal_path(cursor: sqlite3.Cursor) -> Path | None:
    """None without WAL, as on some network disks or in memory."""
    if _enable_wal(cursor) != "wal":
        return None
    cursor.execute("PRAGMA database_list")
    file = next(path for _, name, path in cursor.fetchall() if name == "main")
    return Path(f"{file}-wal")


def _enable_wal(cursor: sqlite3.Cursor) -> str:
    """Request WAL; the resulting journal mode.

    If two connections switch at the same time, SQLite fails one without the busy timeout.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return str(cursor.fetchone()[0])
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        await_only(asyncio.sleep(_RETRY_SECONDS))
