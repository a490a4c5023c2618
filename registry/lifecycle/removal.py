"""Removal of files that no version needs: outside of every transaction, as the store may hang."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial

from registry.catalog.repository import RegistryRepository
from registry.database.engine import Database
from registry.sources.disks.store_threads import STEPS
from registry.storage.removal import Reservation
from registry.storage.store import ArtifactStore, storage_errors

logger = logging.getLogger(__name__)

_TRIES = 5
_RETRY_SECONDS = 0.02


class Removal(Enum):
    """What became of files that were to be removed."""

    REMOVED = auto()
    KEPT = auto()  # a version needs them, or there are none
    PENDING = auto()  # they go later, unless a request that looks at them now begins to need them


class ReservedFiles:
    """Files that no version can begin to need, or None, if one may need them."""

    def __init__(self, database: Database, reservation: Reservation | None) -> None:
        self._database = database
        self._reservation = reservation
        self.is_open = reservation is not None

    async def remove(self) -> Removal:
        """Remove them once, unless a version needs them.

        What the store does not do in time it does later. Raises DatabaseUnavailable.
        """
        reservation = self._reservation
        if reservation is None:
            return Removal.PENDING
        async with self._database.read_session() as session:
            if await RegistryRepository(session).uses_of_files(reservation.digest):
                return Removal.KEPT
        self.is_open = False
        try:
            were_there = await STEPS.finish(reservation.remove)
        except OSError as error:  # the cleanup tries again
            logger.warning("files can't be removed: %s", error.strerror or error)
            were_there = None
        if reservation.has_removed:
            return Removal.REMOVED
        return Removal.PENDING if were_there is None else Removal.KEPT


class FileRemoval:
    """Reserves files before the transaction that stops needing them.

    A lock in the store is all that is taken before, and files are moved only after. So a store that
    hangs keeps no request from the database, and changes nothing; and what a crash leaves behind,
    the cleanup finds by the lock's file.
    """

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._store = store

    @asynccontextmanager
    async def reserved(self, digest: str, *, patient: bool = False) -> AsyncIterator[ReservedFiles]:
        """Reserve them during the block. `patient`: wait a moment for who looks at them now.

        Raises StoreUnavailable.
        """
        reservation = await self._reserve(digest)
        for _ in range(_TRIES if patient else 0):
            if reservation is None:
                await asyncio.sleep(_RETRY_SECONDS)
                reservation = await self._reserve(digest)
        files = ReservedFiles(self._database, reservation)
        try:
            yield files
        except BaseException:
            if reservation is not None and files.is_open:
                await asyncio.shield(STEPS.finish(reservation.abandon))
            raise
        if reservation is not None and files.is_open:
            await STEPS.finish(reservation.release)

    async def remove(self, digest: str) -> Removal:
        """Remove them, unless they are needed. Raises StoreUnavailable, DatabaseUnavailable."""
        async with self.reserved(digest) as files:
            return await files.remove()

    async def _reserve(self, digest: str) -> Reservation | None:
        reserve = partial(self._store.removals.reserve, digest)
        with storage_errors("the files can't be removed"):
            return await STEPS.run(reserve, _abandon)


def _abandon(late: Reservation | None) -> None:
    if late is not None:
        late.abandon()
