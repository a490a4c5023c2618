"""Cleanup of what crashed processes left behind, and of old jobs."""

import asyncio
from datetime import timedelta

from registry.catalog.repository import RegistryRepository
from registry.database.engine import Database
from registry.ingest.pipeline import close_workspace, open_workspace
from registry.ingest.repository import JobRepository
from registry.models import now
from registry.sources.threads import run_to_completion
from registry.storage.store import ArtifactStore, storage_errors


class Cleanup:
    """Visits only what may be left over, never the whole store."""

    def __init__(self, store: ArtifactStore, database: Database, *, retention: timedelta) -> None:
        self._store = store
        self._database = database
        self._retention = retention

    async def run(self) -> None:
        """Run once. Raises StoreUnavailable, DatabaseUnavailable."""
        await self.clean_all_pending()
        with storage_errors("the store can't be swept"):
            names = await asyncio.to_thread(self._store.workspaces)
            async with self._database.read_session() as session:
                names -= await JobRepository(session).workspaces()
            for name in names:
                await self.clean_workspace(name)
        async with self._database.transaction(for_catalog=False) as session:
            await JobRepository(session).delete_finished(now() - self._retention)

    async def clean_all_pending(self) -> None:
        """Delete stored files whose row was not written; few are pending at a time.

        Raises StoreUnavailable, DatabaseUnavailable.
        """
        with storage_errors("the store can't be swept"):
            for digest in await asyncio.to_thread(self._store.pending_digests):
                await self._clean_pending(digest)

    async def clean_workspace(self, name: str) -> None:
        """Delete it unless an unfinished job needs it or it is locked.

        It is locked first, then checked: a job's row is written before its workspace is unlocked.
        Raises StoreUnavailable, DatabaseUnavailable.
        """
        if await self._is_needed(name):
            return
        workspace = await open_workspace(self._store, name)
        if workspace is None:
            return
        workspace.is_needed = True
        try:
            workspace.is_needed = await self._is_needed(name)
        finally:
            await close_workspace(workspace)

    async def _clean_pending(self, digest: str) -> None:
        """Threads may wait for the lock held here, so this must not wait for a thread."""
        lock = await run_to_completion(asyncio.to_thread(self._store.try_lock, digest))
        if lock is None:
            return
        settled, removed = False, None
        try:
            async with self._database.transaction(for_catalog=False) as session:
                repository = RegistryRepository(session)
                await repository.lock_files(digest)
                if not await repository.uses_of_files(digest):
                    removed = self._store.remove(digest)
                settled = True
                lock.release()  # a purge that waits for the transaction must not find it taken
        finally:
            if not settled:
                lock.abandon()
        if removed is not None:
            await self.clean_workspace(removed)

    async def _is_needed(self, name: str) -> bool:
        async with self._database.read_session() as session:
            return await JobRepository(session).needs_workspace(name)
