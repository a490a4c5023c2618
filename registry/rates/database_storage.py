"""Database storage of rates: counts of all servers on one database, in a table."""

import logging
import time
from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import RateCount
from registry.rates.shared_storage import (
    Counts,
    FailureObserver,
    SharedStorage,
    StoreAway,
    Window,
)

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_ADD = text(
    "INSERT INTO rate_count (name, used, expires_at) VALUES (:name, :used, :expires_at) "
    "ON CONFLICT (name) DO UPDATE SET used = rate_count.used + excluded.used RETURNING used"
)


class DatabaseStorage(SharedStorage):
    """One transaction for each take."""

    STORAGE_SCHEME = ["async+adaptry-database"]  # noqa: RUF012  # as the library declares it

    def __init__(self, database: Database, on_failure: FailureObserver = lambda: None) -> None:
        super().__init__(on_failure)
        self._database = database
        self._swept_at = 0.0

    async def take(self, window: Window, limit: int, amount: int) -> Counts:
        try:
            async with self._database.transaction(for_catalog=False) as session:
                return await self._take(session, window, limit, amount)
        except DatabaseUnavailable as error:
            logger.debug("rates are counted by this server alone: %s", error.detail)
            raise StoreAway from error

    async def add(self, name: str, kept_seconds: int, amount: int) -> int:
        try:
            async with self._database.transaction(for_catalog=False) as session:
                return await _add(session, name, kept_seconds, amount)
        except DatabaseUnavailable as error:
            raise StoreAway from error

    async def read(self, names: Sequence[str]) -> Mapping[str, int]:
        chosen = select(RateCount).where(col(RateCount.name).in_(names))
        try:
            async with self._database.read_session() as session:
                rows = (await session.execute(chosen)).scalars().all()
        except DatabaseUnavailable as error:
            raise StoreAway from error
        return {row.name: row.used for row in rows}

    async def _take(self, session: AsyncSession, window: Window, limit: int, amount: int) -> Counts:
        """The row is locked from the first statement on: two servers can't both take the rest."""
        used = await _add(session, window.current, window.kept_seconds, amount)
        row = await session.get(RateCount, window.previous)
        before = 0 if row is None else row.used
        if used + int(window.weight * before) > limit:
            used = await _add(session, window.current, window.kept_seconds, -amount)
            return Counts(False, used, before)
        await self._sweep(session)
        return Counts(True, used, before)

    async def _sweep(self, session: AsyncSession) -> None:
        now = time.time()
        if now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            await session.execute(delete(RateCount).where(col(RateCount.expires_at) < int(now)))


async def _add(session: AsyncSession, name: str, kept_seconds: int, amount: int) -> int:
    values = {"name": name, "used": amount, "expires_at": int(time.time() + kept_seconds)}
    return int((await session.execute(_ADD, values)).scalar_one())
