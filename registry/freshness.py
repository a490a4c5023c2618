"""Notices what other processes change in the same database."""

import time

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.db import Database
from registry.errors import DatabaseUnavailable
from registry.models import Adapter, Event

# Events get their ids before they are committed, so that a lower id may appear after a higher one.
_MAY_BE_LATE = 1000


class Freshness:
    """Looks for new events now and then. What this process commits itself is known at once."""

    def __init__(self, database: Database, *, every_seconds: float = 1.0) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._due = 0.0
        self._seen: tuple[int, int] | None = None
        self._seen_ids: frozenset[int | None] = frozenset()

    async def look(self) -> None:
        """Makes a new generation if anything has changed. Cheap but for once in a while.

        A database that is away changes nothing: what was asked before goes on being answered.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every_seconds
        try:
            async with self._database.reading() as session:
                await self._compare(session)
        except DatabaseUnavailable:
            return

    async def _compare(self, session: AsyncSession) -> None:
        seen = await _newest(session)
        if seen == self._seen:
            return
        before, self._seen = self._seen, seen
        latest = await _latest(session, seen[0])
        new = latest.keys() - self._seen_ids
        self._seen_ids = frozenset(latest)
        if before is None or seen[0] - before[0] >= _MAY_BE_LATE:  # more than were looked at
            self._database.generations.change()
        elif named := set(filter(None, (latest[id_] for id_ in new))):
            self._database.generations.change(*named)


async def _newest(session: AsyncSession) -> tuple[int, int]:
    """The highest id, and how many there are of the last ones."""
    newest = (await session.execute(select(func.max(col(Event.id))))).scalar_one() or 0
    latest = select(func.count()).where(col(Event.id) > newest - _MAY_BE_LATE)
    return newest, (await session.execute(latest)).scalar_one()


async def _latest(session: AsyncSession, newest: int) -> dict[int | None, str]:
    """The last events by id, each with its adapter's name."""
    statement = (
        select(col(Event.id), col(Adapter.name))
        .outerjoin(Adapter, col(Event.adapter_id) == col(Adapter.id))
        .where(col(Event.id) > newest - _MAY_BE_LATE)
    )
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}
