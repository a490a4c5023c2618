"""Key reader: reads API keys in batches, one query at a time, whatever keys are presented.

Any client may present keys that do not exist. They share the query that is next, so that they
neither reach the database more often nor hold more than one of its connections.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.grants import granted_adapters
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models.api_key import ApiKey
from registry.references import tenant_of

BATCH = 256
MAX_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class KeyWithGrants:
    """A key, and the adapters of others that its tenant may use."""

    key: ApiKey
    granted: frozenset[str]


Reading = asyncio.Future[KeyWithGrants | None]


class KeyReader:
    """Concurrent reads of one key are one read. Keys that were valid before are read first."""

    def __init__(self, database: Database, *, max_waiting: int = MAX_WAITING) -> None:
        self._database = database
        self._max_waiting = max_waiting
        self._known: dict[str, Reading] = {}
        self._strange: dict[str, Reading] = {}
        self._work: asyncio.Task[None] | None = None

    async def read(self, public_id: str, *, is_known: bool) -> KeyWithGrants | None:
        """None if there is no such key. Raises DatabaseUnavailable."""
        waiting = self._known if is_known else self._strange
        reading = waiting.get(public_id)
        if reading is None:
            if len(waiting) >= self._max_waiting:
                raise DatabaseUnavailable("too many keys are being looked up")
            reading = waiting[public_id] = asyncio.get_running_loop().create_future()
        if self._work is None:
            self._work = asyncio.create_task(self._read_all())
        return await asyncio.shield(reading)

    async def _read_all(self) -> None:
        try:
            while waiting := self._known or self._strange:
                await self._read_some(waiting)
        finally:
            self._work = None

    async def _read_some(self, waiting: dict[str, Reading]) -> None:
        batch = {each: waiting.pop(each) for each in list(islice(waiting, BATCH))}
        try:
            async with self._database.read_session() as session:
                found = await _select(session, list(batch))
        except Exception as error:
            for reading in batch.values():
                reading.set_exception(error)
                reading.exception()  # its caller may have left
        else:
            for public_id, reading in batch.items():
                reading.set_result(found.get(public_id))
        finally:
            for reading in batch.values():
                reading.cancel()  # this task was cancelled, or it is done


async def _select(session: AsyncSession, public_ids: Sequence[str]) -> dict[str, KeyWithGrants]:
    statement = select(ApiKey).where(col(ApiKey.public_id).in_(public_ids))
    keys = (await session.execute(statement)).scalars().all()
    granted = {t: await granted_adapters(session, t) for t in {tenant_of(k.name) for k in keys}}
    return {key.public_id: KeyWithGrants(key, granted[tenant_of(key.name)]) for key in keys}
