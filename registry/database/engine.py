"""Database engine, and sessions that commit once, at the edge of a use case."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import sessionmaker

from registry.database import sqlite_file
from registry.database.change_counter import ChangeCounter
from registry.database.commit_watch import CommitWatch, SeenCommits
from registry.database.observer import (
    DatabaseObserver,
    Operation,
    committed_rows,
    track_changes,
)
from registry.database.outages import translate_outages
from registry.database.sqlite_connection import (
    BEGIN_WRITE,
    SqliteConnection,
    ThreadSession,
    Work,
    connect,
    open_pool,
)
from registry.database.sqlite_file import SqliteFile
from registry.database.sqlite_group_commit import (
    GroupCommit,
    Sync,
    configure,
    sync_file,
)
from registry.database.urls import async_url
from registry.database.write_turns import WriteTurns
from registry.errors import DatabaseUnavailable

# asyncpg's, in seconds: to connect, and per statement, as a server may vanish silently
_DRIVER_TIMEOUTS = {"timeout": 5, "command_timeout": 60}

SESSION_TIMEOUT_SECONDS = 10.0  # requests' statements take milliseconds

_BEGIN = text(BEGIN_WRITE)

Result = TypeVar("Result")


class Database:
    """Opens read and write sessions on SQLite or PostgreSQL.

    A write transaction on SQLite takes the write lock at its start, so that what it reads is still
    true when it commits. When a session ends, what it wrote or read is on the disk. Outages raise
    DatabaseUnavailable and end on their own: a connection is checked before it leaves the pool.
    """

    def __init__(
        self, url: str, *, sync: Sync = sync_file, observer: DatabaseObserver | None = None
    ) -> None:
        self.url = make_url(async_url(url))
        self._sqlite = self.url.get_backend_name() == "sqlite"
        self._log = GroupCommit(sync)
        self._turns = WriteTurns()
        self._file = SqliteFile(self.url)
        if self._sqlite:
            self._engine = open_pool(self.url, self._connect)
            configure(self._engine, self._log, self._file)
        else:
            self._engine = create_async_engine(
                self.url, pool_pre_ping=True, connect_args=_DRIVER_TIMEOUTS
            )
        self._observer = observer
        sessions = sessionmaker()
        if observer is not None:
            track_changes(sessions)
        options: Any = {"sync_session_class": sessions, "expire_on_commit": False}
        self._sessions = async_sessionmaker(self._engine, **options)
        self._thread_sessions = async_sessionmaker(class_=ThreadSession, **options)
        self.changes = ChangeCounter()  # all changes known to this process
        self._commits = CommitWatch(self.url)
        self.on_change: list[Callable[[], None]] = []

    @property
    def change_count(self) -> int:
        """Number of changes known to this process."""
        return self.changes.count

    async def close(self) -> None:
        self._commits.close()
        await self._engine.dispose()

    def seen_commits(self) -> SeenCommits:
        """For one poller of this database."""
        return SeenCommits(self._commits.version)

    async def _connect(self) -> SqliteConnection:
        await self._check_file()  # SQLite would create another one
        await asyncio.to_thread(sqlite_file.create, self.url)
        return await connect(self.url, before_write=self._file.check)

    async def _check_file(self) -> None:
        """In a thread: a disk that hangs must not hold up the event loop."""
        await asyncio.to_thread(self._file.check)

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self.read_session() as session:
            await self._check_file()
            await session.execute(text("SELECT 1"))

    @asynccontextmanager
    async def read_session(self) -> AsyncIterator[AsyncSession]:
        """A session for a few short queries; it is never committed."""
        with self._observe(Operation.READ):
            async with asyncio.timeout(SESSION_TIMEOUT_SECONDS), self._read_session() as session:
                yield session

    @asynccontextmanager
    async def _read_session(self) -> AsyncIterator[AsyncSession]:
        async with self._sessions() as session:
            yield session
        await self._log.wait_durable()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A session whose queries all see the same snapshot, however long they take."""
        begin = "BEGIN" if self._sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        with translate_outages():
            async with self._snapshot(begin) as session:
                yield session

    @asynccontextmanager
    async def _snapshot(self, begin: str) -> AsyncIterator[AsyncSession]:
        async with self._read_session() as session:
            await session.execute(text(begin))
            if self._sqlite:  # the snapshot begins with the first query
                await session.execute(text("SELECT 1 FROM sqlite_schema"))
                await self._log.wait_durable()  # what is read may be sent before the end
            yield session

    @asynccontextmanager
    async def transaction(
        self, *, for_catalog: bool = True, adapter: str | None = None
    ) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end of the block, or not at all.

        `for_catalog` False: no answer of the catalog changes. `adapter`: only those about
        this adapter do.
        """
        with self._observe(Operation.WRITE):
            async with self._sessions() as session, self._write_lock(session):
                yield session
                with self._log.commit():  # a cancelled commit may have happened
                    await session.commit()
                if self._observer is not None:
                    self._observer.on_commit(committed_rows(session))
            if for_catalog:
                self.notify_change(adapter)
            await self._log.wait_durable()

    async def run(
        self,
        work: Work[Result],
        *,
        for_catalog: bool = True,
        adapter: str | None = None,
        is_told: bool = True,
    ) -> Result:
        """`transaction` around work that awaits nothing but its session, for what is done often.

        On SQLite all of it is one trip to the connection's thread: a trip for each statement takes
        longer than the statements, and most of that on the event loop. Once there it is not
        cancelled, and has no event loop. `is_told` False: the caller reports it to no observer
        before another session or `wait_durable` has ended.
        """
        if not self._sqlite:
            async with self.transaction(for_catalog=for_catalog, adapter=adapter) as session:
                return await work(session)
        with self._observe(Operation.WRITE):
            async with self._turns.turn():
                result = await self._run_in_thread(work, for_catalog, adapter)
            if is_told:
                await self._log.wait_durable()
        return result

    async def wait_durable(self) -> None:
        """Until all that was committed is on the disk. Raises DatabaseUnavailable."""
        with translate_outages():
            await self._log.wait_durable()

    async def _run_in_thread(
        self, work: Work[Result], for_catalog: bool, adapter: str | None
    ) -> Result:
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = cast(SqliteConnection, raw.driver_connection)
            session = self._thread_sessions()
            result = await driver.run(session, work, self._log.commit())
            # immediately: a cancellation meanwhile is raised at the next `await`
            if self._observer is not None:
                self._observer.on_commit(committed_rows(session))
            if for_catalog:
                self.notify_change(adapter)
            return result

    @contextmanager
    def _observe(self, operation: Operation) -> Iterator[None]:
        """Report the session to the observer. Raises DatabaseUnavailable on an outage."""
        if self._observer is None:
            with translate_outages():
                yield
            return
        began = time.monotonic()
        try:
            with translate_outages():
                yield
        except DatabaseUnavailable:
            self._observer.on_failure()
            raise
        finally:
            self._observer.on_session_end(operation, time.monotonic() - began)

    @asynccontextmanager
    async def _write_lock(self, session: AsyncSession) -> AsyncIterator[None]:
        """Serialize writers on SQLite, which would let them poll for its lock.

        On PostgreSQL only getting a connection has the timeout of a read; statements may then wait
        longer, for row locks.
        """
        if not self._sqlite:
            async with asyncio.timeout(SESSION_TIMEOUT_SECONDS):
                await session.connection()
            yield
            return
        async with self._turns.turn():
            await session.execute(_BEGIN)
            yield

    def notify_change(self, adapter: str | None = None) -> None:
        """Record a change, of one adapter or of all, and call the listeners."""
        self.changes.record(*([] if adapter is None else [adapter]))
        for callback in self.on_change:
            callback()
