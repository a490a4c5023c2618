"""Cleanup of what crashed processes left behind, and of old jobs."""

from datetime import timedelta

from registry.database.engine import Database
from registry.ingest.pipeline import close_workspace, open_workspace
from registry.ingest.repository import JobRepository
from registry.lifecycle.removal import FileRemoval
from registry.models import now
from registry.sources.disks.store_threads import STEPS
from registry.storage.store import ArtifactStore, storage_errors


class Cleanup:
    """Visits only what may be left over, never the whole store."""

    def __init__(self, store: ArtifactStore, database: Database, *, retention: timedelta) -> None:
        self._store = store
        self._database = database
        self._removal = FileRemoval(database, store)
        self._retention = retention

    async def run(self) -> None:
        """Run once. Raises StoreUnavailable, DatabaseUnavailable."""
        await self.clean_all_pending()
        with storage_errors("the store can't be swept"):
            names = await STEPS.run(self._store.workspaces)
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
            for digest in await STEPS.run(self._store.pending_digests):
                await self._removal.remove(digest)

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

    async def _is_needed(self, name: str) -> bool:
        async with self._database.read_session() as session:
            return await JobRepository(session).needs_workspace(name)
