"""The database: one engine, and sessions that commit once at the edge of a use case."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from registry.errors import DatabaseUnavailable

_BUSY_TIMEOUT_MS = 10_000
# asyncpg's, in seconds: to connect, and for a statement, as a server may vanish without a word
_PATIENCE = {"timeout": 5, "command_timeout": 60}

# All that is not in the statement itself: asyncpg's errors for a server that stops, starts or
# was killed are of no class of their own, and SQLite's for a broken file are DatabaseError.
_OUR_MISTAKES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)

_ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
# What asyncpg takes from a URL; libpq's other options it does not know.
_OPTIONS = {"host", "port", "ssl", "passfile", "service", "servicefile", "target_session_attrs"}


def async_url(url: str) -> str:
    """`sqlite:///file` and `postgresql://…` with the drivers that we use; others as they are.

    libpq's `sslmode` becomes asyncpg's `ssl`, which means the same.
    """
    scheme, separator, rest = url.partition("://")
    whole = _ASYNC_DRIVERS.get(scheme, scheme) + separator + rest
    if "sslmode=" not in rest:
        return whole
    parsed = make_url(whole)
    options = {"ssl" if key == "sslmode" else key: value for key, value in parsed.query.items()}
    return parsed.set(query=options).render_as_string(hide_password=False)


def check_url(url: str) -> str:
    """The URL with its driver. Raises ValueError for a database that we don't speak to."""
    try:
        whole = async_url(url)
        parsed = make_url(whole)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        parsed = None
    if parsed is None or parsed.drivername not in _ASYNC_DRIVERS.values():
        raise ValueError("write sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    unknown = set(parsed.query) - _OPTIONS
    if unknown and parsed.get_backend_name() == "postgresql":
        raise ValueError(f"this URL has options that are not known: {', '.join(sorted(unknown))}")
    return whole


def make_folder(url: URL) -> None:
    """SQLite makes the file but not its folder."""
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


class Database:
    """Opens read and write sessions on SQLite or PostgreSQL.

    A write transaction on SQLite takes the write lock when it begins, so that what it reads is
    still true when it commits. A database that can't be used surfaces as DatabaseUnavailable, and
    is used again as soon as it can be: a connection is tried before it is taken from the pool.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(async_url(url))
        self._sqlite = self.url.get_backend_name() == "sqlite"
        make_folder(self.url)
        if self._sqlite:
            self._engine = create_async_engine(self.url)
            _prepare_sqlite(self._engine)
        else:
            self._engine = create_async_engine(self.url, pool_pre_ping=True, connect_args=_PATIENCE)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self.generation = 0  # grows with every change that this process knows of
        self.on_change: list[Callable[[], None]] = []

    async def close(self) -> None:
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries; nothing it does is kept."""
        with outages_translated():
            async with self._sessions() as session:
                yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A session for queries that all see the same moment, however long they take."""
        begin = "BEGIN" if self._sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        async with self.reading() as session:
            await session.execute(text(begin))
            yield session

    @asynccontextmanager
    async def transaction(self, *, for_catalog: bool = True) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end of the block, or not at all.

        `for_catalog` False: nothing that the catalog answers changes by it.
        """
        with outages_translated():
            async with self._sessions() as session:
                if self._sqlite:
                    await session.execute(text("BEGIN IMMEDIATE"))
                yield session
                await session.commit()
        if for_catalog:
            self.changed()

    def changed(self) -> None:
        """Something in the database is new: answers from before may be stale."""
        self.generation += 1
        for tell in self.on_change:
            tell()


@contextmanager
def outages_translated() -> Iterator[None]:
    """Raises DatabaseUnavailable for whatever keeps the database from being used."""
    try:
        yield
    except _OUR_MISTAKES:
        raise
    except (DBAPIError, NoConnectionLeft, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        shown = str(cause) or type(cause).__name__
        raise DatabaseUnavailable(f"the database can't be used now: {shown}") from error


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, and which one
        cursor: sqlite3.Cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
