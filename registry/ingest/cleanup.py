"""Cleanup of what crashed processes left behind, and of old jobs."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from registry.database.engine import Database
from registry.errors import StoreUnavailable
from registry.ingest.pipeline import close_workspace, open_workspace
from registry.ingest.repository import JobRepository
from registry.lifecycle.removal import FileRemoval
from registry.models import now
from registry.sources.disks.store_threads import STEPS
from registry.storage.store import ArtifactStore, storage_errors

_FAILED = "the store can't be swept"


class Cleanup:
    """Visits only what may be left over, never the whole store."""

    def __init__(self, store: ArtifactStore, database: Database, *, retention: timedelta) -> None:
        self._store = store
        self._database = database
        self._removal = FileRemoval(database, store)
        self._retention = retention
        self._stuck: set[str] = set()

    async def run(self) -> None:
        """Run once. Raises StoreUnavailable, DatabaseUnavailable."""
        async with self._database.transaction(for_catalog=False) as session:
            await JobRepository(session).delete_finished(now() - self._retention)
        with storage_errors(_FAILED):
            digests = await STEPS.run(self._store.pending_digests)
            names = await STEPS.run(self._store.workspaces)
        async with self._database.read_session() as session:
            names -= await JobRepository(session).workspaces()
        await self._clean_each(
            {
                **dict.fromkeys(digests, self._removal.remove),
                **dict.fromkeys(names, self.clean_workspace),
            }
        )

    async def clean_all_pending(self) -> None:
        """Delete stored files whose row was not written; few are pending at a time.

        Raises StoreUnavailable, DatabaseUnavailable.
        """
        with storage_errors(_FAILED):
            digests = await STEPS.run(self._store.pending_digests)
        await self._clean_each(dict.fromkeys(digests, self._removal.remove))

    async def _clean_each(self, steps: Mapping[str, Callable[[str], Awaitable[object]]]) -> None:
        """What could not be removed before comes last: it must not keep all others there."""
        for name in sorted(steps, key=self._stuck.__contains__):
            self._stuck.add(name)
            try:
                with storage_errors():
                    await steps[name](name)
            except StoreUnavailable as error:
                raise StoreUnavailable(f"{_FAILED}, at {name}: {error.detail}") from error
            self._stuck.discard(name)
        self._stuck &= steps.keys()

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
