"""Database storage of rates: counts of all servers on one database, in a table.

During an outage each server counts on its own.
"""

import logging
import time

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import RateCount
from registry.rates.memory_storage import BoundedMemoryStorage

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_ADD = text(
    "INSERT INTO rate_count (name, used, expires_at) VALUES (:name, :used, :expires_at) "
    "ON CONFLICT (name) DO UPDATE SET used = rate_count.used + excluded.used RETURNING used"
)


class DatabaseStorage(BoundedMemoryStorage):
    """One transaction for each take. What was read of a minute in it is remembered."""

    STORAGE_SCHEME = ["async+adaptry-database"]  # noqa: RUF012  # as the library declares it

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._swept_at = 0.0

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        try:
            async with self._database.transaction(for_catalog=False) as session:
                return await self._take(session, key, limit, expiry, amount)
        except DatabaseUnavailable as error:
            logger.debug("rates are counted by this server alone: %s", error.detail)
            return await super().acquire_sliding_window_entry(key, limit, expiry, amount)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        try:
            async with self._database.transaction(for_catalog=False) as session:
                return await self._add(session, key, expiry, amount)
        except DatabaseUnavailable:
            return await super().incr(key, expiry, amount)

    async def _take(
        self, session: AsyncSession, key: str, limit: int, expiry: int, amount: int
    ) -> bool:
        """The row is locked from the first statement on: two servers can't both take the rest."""
        now = time.time()
        previous_key, current_key = self.sliding_window_keys(key, expiry, now)
        used = await self._add(session, current_key, 2 * expiry, amount)
        before = await session.get(RateCount, previous_key)
        if before is not None:
            self._remember(previous_key, before.used, before.expires_at)
        weight = 1 - now % expiry / expiry
        if used + int(weight * (before.used if before is not None else 0)) > limit:
            await self._add(session, current_key, 2 * expiry, -amount)
            return False
        await self._sweep(session, now)
        return True

    async def _add(self, session: AsyncSession, key: str, expiry: float, amount: int) -> int:
        expires_at = int(time.time() + expiry)
        values = {"name": key, "used": amount, "expires_at": expires_at}
        used = int((await session.execute(_ADD, values)).scalar_one())
        self._remember(key, used, expires_at)
        return used

    def _remember(self, key: str, used: int, expires_at: float) -> None:
        if key not in self.expirations:
            self._make_room(time.time())
            self.expirations[key] = expires_at
        self.storage[key] = used

    async def _sweep(self, session: AsyncSession, now: float) -> None:
        if now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            await session.execute(delete(RateCount).where(col(RateCount.expires_at) < int(now)))
