"""Clears away what nobody needs any more: what crashed processes left, and jobs of long ago."""

import asyncio
from datetime import timedelta

from registry.catalog.repository import RegistryRepository
from registry.database.engine import Database
from registry.ingest.pipeline import closed, opened_workspace
from registry.ingest.repository import JobRepository
from registry.models import now
from registry.sources.threads import to_its_end
from registry.storage.store import ArtifactStore, storing


class Sweep:
    """Goes over what is left only, never over the whole store."""

    def __init__(self, store: ArtifactStore, database: Database, *, retention: timedelta) -> None:
        self._store = store
        self._database = database
        self._retention = retention

    async def run(self) -> None:
        """Once. Raises StoreUnavailable, DatabaseUnavailable."""
        with storing("the store can't be swept"):
            for digest in await asyncio.to_thread(self._store.arrivals):
                await self._look_at_arrival(digest)
            for name in await asyncio.to_thread(self._store.workspaces):
                await self.look_at_workspace(name)
        async with self._database.transaction(for_catalog=False) as session:
            await JobRepository(session).forget(now() - self._retention)

    async def look_at_workspace(self, name: str) -> None:
        """Clear it away unless an unfinished job needs it or somebody works in it.

        It is claimed first and asked about then: a job's row is written before it is let go.
        Raises StoreUnavailable, DatabaseUnavailable.
        """
        if await self._is_needed(name):
            return
        workspace = await opened_workspace(self._store, name)
        if workspace is None:
            return
        workspace.is_needed = True
        try:
            workspace.is_needed = await self._is_needed(name)
        finally:
            await closed(workspace)

    async def _look_at_arrival(self, digest: str) -> None:
        """While we have the claim, threads may wait for it: we must not wait for a thread."""
        claim = await to_its_end(asyncio.to_thread(self._store.take, digest))
        if claim is None:
            return
        settled = False
        try:
            async with self._database.transaction(for_catalog=False) as session:
                repository = RegistryRepository(session)
                await repository.lock_files(digest)
                if not await repository.uses_of_files(digest):
                    self._store.remove(digest)
                settled = True
                claim.release()  # a purge that waits for the transaction must not find it taken
        finally:
            if not settled:
                claim.abandon()

    async def _is_needed(self, name: str) -> bool:
        async with self._database.read_session() as session:
            return await JobRepository(session).needs_workspace(name)
