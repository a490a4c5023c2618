"""Notices what other processes change in the same database."""

import time

from sqlalchemy import func, select
from sqlmodel import col

from registry.db import Database
from registry.errors import DatabaseUnavailable
from registry.models import Event

# Events get their ids before they are committed, so that a lower id may appear after a higher one.
_MAY_BE_LATE = 1000


class Freshness:
    """Looks for new events now and then. What this process commits itself is known at once."""

    def __init__(self, database: Database, *, every_seconds: float = 1.0) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._due = 0.0
        self._seen: tuple[int, int] | None = None

    async def look(self) -> None:
        """Makes a new generation if anything has changed. Cheap but for once in a while.

        A database that is away changes nothing: what was asked before goes on being answered.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every_seconds
        try:
            seen = await self._newest()
        except DatabaseUnavailable:
            return
        if seen != self._seen:
            self._seen = seen
            self._database.generation += 1

    async def _newest(self) -> tuple[int, int]:
        """The highest id, and how many there are of the last ones."""
        async with self._database.reading() as session:
            newest = (await session.execute(select(func.max(col(Event.id))))).scalar_one() or 0
            latest = select(func.count()).where(col(Event.id) > newest - _MAY_BE_LATE)
            return newest, (await session.execute(latest)).scalar_one()
