"""SQLite connection in its own thread, with one round trip per statement.

aiosqlite creates a cursor, executes, fetches and closes in four round trips to its thread, and each
takes longer than most statements (aiosqlite 0.22, SQLAlchemy 2.1: a registration took 26 trips).
Here the thread does all four in one, and `run` does all of a transaction in one. There is no event
loop in the thread: its statements need no asynchronous driver, which changes greenlets for each.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from functools import partial
from threading import Thread, current_thread
from typing import Any, TypeVar, cast

import aiosqlite
from aiosqlite.core import _connection_worker_thread
from sqlalchemy import URL, Connection, StaticPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from registry.database.sqlite_file import path_of
from registry.sources.threads import run_to_completion

BEGIN_WRITE = "BEGIN IMMEDIATE"
_BEGIN = text(BEGIN_WRITE)
_ROWS_AT_A_TIME = 64  # for aiosqlite's own cursors, unused here

Result = TypeVar("Result")
Work = Callable[[AsyncSession], Coroutine[Any, Any, Result]]


def _do_nothing() -> None:
    """No check."""


class SqliteCursor:
    """One statement and all its rows, with the interface SQLAlchemy expects of a cursor."""

    def __init__(self, run: Callable[..., Awaitable[Any]], connection: "SqliteConnection") -> None:
        self._run = run
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "SqliteCursor":
        return self

    async def execute(self, operation: str, parameters: Any = ()) -> "SqliteCursor":
        await self._run(self._execute, sqlite3.Cursor.execute, operation, parameters)
        return self

    async def executemany(self, operation: str, parameters: Any) -> "SqliteCursor":
        await self._run(self._execute, sqlite3.Cursor.executemany, operation, parameters)
        return self

    async def fetchall(self) -> Sequence[Any]:
        return self._rows

    async def close(self) -> None:
        self._rows = []

    def _execute(self, how: Callable[..., Any], operation: str, parameters: Any) -> None:
        """Runs in the thread."""
        if operation == BEGIN_WRITE:
            self._connection.before_write()
        cursor = self._connection.driver.cursor()
        try:
            how(cursor, operation, parameters)
            self.description = cursor.description
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
            self._rows = cursor.fetchall() if cursor.description else []
        finally:
            cursor.close()


class ThreadSession(AsyncSession):
    """A session in a connection's thread, where nothing is waited for."""

    async def execute(self, *statement: Any, **options: Any) -> Any:
        return self.sync_session.execute(*statement, **options)


class SqliteConnection(aiosqlite.Connection):
    """aiosqlite's connection, with other cursors, and no trip to roll nothing back.

    SQLAlchemy rolls back twice after each session, and a reading one has no transaction.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.before_write: Callable[[], None] = _do_nothing
        self._unanswered = 0  # trips that began and have not ended in the thread
        self._plain: Connection | None = None

    async def run(
        self, session: ThreadSession, work: Work[Result], commit: AbstractContextManager[None]
    ) -> Result:
        """Run a transaction in the thread, in one trip. `work` may await nothing but its session.

        It runs to its end; a cancellation meanwhile is raised at the caller's next `await`.
        `commit` is entered for the commit, and left on the event loop.
        """
        committing = ExitStack()

        async def in_thread() -> Result:
            session.sync_session.bind = self._over_driver()
            try:
                self.before_write()
                await session.execute(_BEGIN)
                result = await work(session)
                committing.enter_context(commit)
                await session.commit()
            finally:
                await session.close()
            return result

        in_context = partial(copy_context().run, _run_at_once, in_thread)
        trip = super()._execute(in_context)  # type: ignore[no-untyped-call]  # theirs
        with committing:
            return cast(Result, await run_to_completion(trip))

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if current_thread() is self._thread:
            return fn(*args, **kwargs)
        self._unanswered += 1
        result = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # theirs
        self._unanswered -= 1
        return result

    async def rollback(self) -> None:
        # after a trip that failed or was given up, it is unknown what the thread still does
        if self._unanswered or self.driver.in_transaction:
            await super().rollback()
            self._unanswered = 0

    @property
    def driver(self) -> sqlite3.Connection:
        """Use it in the thread only."""
        return self._conn

    def _over_driver(self) -> Connection:
        """SQLAlchemy's, over the driver's. Use it in the thread only."""
        if self._plain is None:
            pool: Any = {"poolclass": StaticPool, "pool_reset_on_return": None}  # never closed
            self._plain = create_engine("sqlite://", creator=lambda: self._conn, **pool).connect()
        return self._plain

    def cursor(self) -> SqliteCursor:  # type: ignore[override]  # SQLAlchemy does not await it
        return SqliteCursor(self._execute, self)


async def connect(url: URL, *, before_write: Callable[[], None] = _do_nothing) -> SqliteConnection:
    """Connect as SQLAlchemy's dialect would, with the URL's options.

    `before_write` is called in the thread before each transaction that writes; it may raise.
    """
    arguments, options = url.get_dialect()().create_connect_args(url)
    connection = SqliteConnection(partial(sqlite3.connect, *arguments, **options), _ROWS_AT_A_TIME)
    connection.before_write = before_write
    # a daemon, as with SQLAlchemy: it must not keep the process alive
    connection._thread = Thread(target=_work, args=(connection._tx,), daemon=True)
    await connection
    return connection


def open_pool(url: URL, connect: Callable[[], Awaitable[SqliteConnection]]) -> AsyncEngine:
    """Its connections. The one that was used last is next: it knows the pages that it wrote, which
    others have to read again.
    """
    more = {} if path_of(url) is None else {"pool_use_lifo": True}  # in memory there is one
    return create_async_engine(url, async_creator=connect, **more)


def _run_at_once(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run it without an event loop: nothing in it waits."""
    coroutine = work()
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("a transaction in its connection's thread waited for something else")


def _work(queue: Any) -> None:
    """aiosqlite's thread; at shutdown it may report its last statement to a closed event loop."""
    try:
        _connection_worker_thread(queue)
    except RuntimeError as error:
        if str(error) != "Event loop is closed":
            raise
