"""Garbage collector: purges versions no retention rule keeps, and files no row names."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from registry.auth.client_address import client_address
from registry.catalog.types import Purge
from registry.database.engine import Database
from registry.errors import RegistryError
from registry.lifecycle.garbage_repository import Candidate, GarbageRepository
from registry.lifecycle.removal import FileRemoval, Removal
from registry.lifecycle.service import LifecycleService
from registry.models import Event, EventKind, VersionState, now
from registry.sources.disks.store_threads import WORK
from registry.storage.store import ArtifactStore, storage_errors

_MAX_LISTED = 100
ORPHANS_AFTER_SECONDS = 3600.0  # by then a registration has written its row or failed


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention rules. Garbage are versions in one of `states` that no rule keeps.

    Kept are: versions that an alias points at; the last `keep_last` of each adapter; and versions
    that an alias pointed at, or that changed state, within `rollback_window`.
    """

    states: frozenset[VersionState] = frozenset({VersionState.RETIRED, VersionState.REJECTED})
    keep_last: int = 5
    rollback_window: timedelta = timedelta(days=30)
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """What was purged, or would be. `kept` counts by rule the versions in the states that stayed.

    `refused`: versions that could not be purged now, with the error's code. `more`: the limit was
    reached. `orphans` are digests of files without a row. `pending_bytes` go later, see `Purge`.
    """

    purged: Sequence[Candidate]
    refused: dict[str, str]
    kept: dict[str, int]
    orphans: Sequence[str]
    freed_bytes: int
    pending_bytes: int
    more: bool


class GarbageCollector:
    """Purges versions one by one; each purge sees concurrent changes."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        removal: FileRemoval,
        lifecycle: LifecycleService,
    ) -> None:
        self._database = database
        self._store = store
        self._removal = removal
        self._lifecycle = lifecycle

    async def collect(
        self, retention: Retention, *, actor: str, limit: int, dry_run: bool
    ) -> Collection:
        """Purge up to `limit` versions and all orphans; a dry run only lists them.

        Raises DatabaseUnavailable, StoreUnavailable.
        """
        found, kept = await self._find(retention, limit + 1)
        garbage = found[:limit]
        orphans = [] if retention.adapter else await self._orphans()
        if dry_run:
            freed = await self._would_free(garbage)
            return Collection(garbage, {}, kept, orphans, freed, 0, len(found) > limit)
        purged: list[Candidate] = []
        refused: dict[str, str] = {}
        freed = pending = 0
        for candidate in garbage:
            try:
                purge = await self._purge(candidate, actor)
                freed, pending = freed + purge.freed_bytes, pending + purge.pending_bytes
                purged.append(candidate)
            except RegistryError as error:
                if error.status == 503:
                    raise
                refused[candidate.reference] = error.code
        deleted = [
            digest for digest in orphans if await self._removal.remove(digest) == Removal.REMOVED
        ]
        if deleted:
            await self._add_event(deleted, actor)
        return Collection(purged, refused, kept, deleted, freed, pending, len(found) > limit)

    async def _add_event(self, deleted: Sequence[str], actor: str) -> None:
        """Write the event of deleted orphans; each purge has its own event."""
        data = {"orphans": len(deleted), "digests": list(deleted[:_MAX_LISTED])}
        kind, address = EventKind.STORE_COLLECTED, client_address()
        async with self._database.transaction(for_catalog=False) as session:
            session.add(Event(actor=actor, address=address, kind=kind, data=data))

    async def _find(
        self, retention: Retention, limit: int
    ) -> tuple[list[Candidate], dict[str, int]]:
        since = now() - retention.rollback_window
        async with self._database.read_session() as session:
            return await GarbageRepository(session).find(
                states=sorted(retention.states),
                keep_last=retention.keep_last,
                since=since,
                adapter=retention.adapter,
                limit=limit,
            )

    async def _purge(self, candidate: Candidate, actor: str) -> Purge:
        name, number, reason = candidate.adapter, candidate.number, "garbage collection"
        if candidate.state in (VersionState.READY, VersionState.DEPRECATED):
            await self._lifecycle.retire(name, number, actor=actor, reason=reason)
        return await self._lifecycle.purge(name, number, actor=actor, reason=reason)

    async def _would_free(self, garbage: Sequence[Candidate]) -> int:
        """Bytes that a purge would free; files that other versions need free nothing."""
        by_digest: dict[str, list[Candidate]] = {}
        for candidate in garbage:
            by_digest.setdefault(candidate.digest, []).append(candidate)
        async with self._database.read_session() as session:
            uses = await GarbageRepository(session).uses(list(by_digest))
        return sum(
            candidates[0].size_bytes
            for digest, candidates in by_digest.items()
            if uses.get(digest) == len(candidates)  # None: purged meanwhile
        )

    async def _orphans(self) -> list[str]:
        list_old = partial(self._store.removals.stored_digests, ORPHANS_AFTER_SECONDS)
        with storage_errors("the store can't be read"):
            stored = await WORK.run(list_old)
        async with self._database.read_session() as session:
            uses = await GarbageRepository(session).uses(stored)
        return [digest for digest in stored if digest not in uses]
