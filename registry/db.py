"""The database: one engine, and sessions that commit once at the edge of a use case."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from registry.errors import DatabaseUnavailable

_BUSY_TIMEOUT_MS = 10_000


_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


def async_url(url: str) -> str:
    """`sqlite:///file` and `postgresql://…` with the drivers that we use; others as they are."""
    scheme, separator, rest = url.partition("://")
    return _ASYNC_DRIVERS.get(scheme, scheme) + separator + rest


def make_folder(url: URL) -> None:
    """SQLite makes the file but not its folder."""
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


class Database:
    """Opens read and write sessions on SQLite or PostgreSQL.

    A write transaction on SQLite takes the write lock when it begins, so that what it reads is
    still true when it commits. Lost connections surface as DatabaseUnavailable.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._sqlite = self.url.get_backend_name() == "sqlite"
        make_folder(self.url)
        self._engine = create_async_engine(self.url, pool_pre_ping=not self._sqlite)
        if self._sqlite:
            _prepare_sqlite(self._engine)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self.generation = 0  # grows with every commit made through this object

    async def close(self) -> None:
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries; nothing it does is kept."""
        async with _translated(), self._sessions() as session:
            yield session

    @asynccontextmanager
    async def transaction(self, *, for_catalog: bool = True) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end of the block, or not at all.

        `for_catalog` False: nothing that the catalog answers changes by it.
        """
        async with _translated(), self._sessions() as session:
            if self._sqlite:
                await session.execute(text("BEGIN IMMEDIATE"))
            yield session
            await session.commit()
            self.generation += for_catalog


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, OSError) as error:
        raise DatabaseUnavailable(_cause(error)) from error


def _cause(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        return f"the database can't be used now: {error.orig}"
    return f"the database can't be reached: {error}"


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
