"""Registrar: verifies an adapter's files, stores them, and publishes them as a version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.catalog.metadata import VersionDetails
from registry.catalog.types import Origin, Registration
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, InvalidAdapter, NameReserved
from registry.ingest.outcome import Ended, ending, ignore_end
from registry.ingest.pipeline import inspected, kept, new_workspace
from registry.ingest.publish import publish
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import Inspection, Verdict, inspect_adapter, judge_adapter
from registry.quotas.service import TenantQuotas
from registry.references import check_name
from registry.sources.base import FetchedSource, Progress
from registry.storage.store import ArtifactStore, StoredArtifact, storing

_ATTEMPTS = 5

Along = Callable[[AsyncSession, Registration], Awaitable[None]]


class Registrar:
    """Registers adapters for one base model. Files are settled before the row is committed."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        base_model: BaseModel,
        quotas: TenantQuotas,
        *,
        max_rank: int,
        reserved_names: frozenset[str] = frozenset(),
    ) -> None:
        self.quotas = quotas
        self._database = database
        self._store = store
        self._base_model = base_model
        self._max_rank = max_rank
        self._reserved_names = reserved_names
        self._ended: Ended = ignore_end

    def tell_of_registrations(self, ended: Ended) -> None:
        """How each one ended that was no job; the end of a job is committed to the database."""
        self._ended = ended

    async def register(
        self,
        name: str,
        source: str,
        *,
        actor: str,
        details: VersionDetails | None = None,
        within: str | None = None,
    ) -> Registration:
        """Verify the files at `source` and publish them as the adapter's next version.

        `within`: the tenant that asks, whose folders alone it may read.

        Raises what `publish` raises; InvalidReference, NameReserved, SourceNotAllowed,
        SourceNotFound, SourceTooLarge, InvalidAdapter, StoreUnavailable.
        """
        self.check_new_name(name)
        with ending(self._ended) as bytes_fetched:
            registration = await self._register(name, source, actor, details, within)
            bytes_fetched(registration.published.version.size_bytes)
        return registration

    async def _register(
        self,
        name: str,
        source: str,
        actor: str,
        details: VersionDetails | None,
        within: str | None,
    ) -> Registration:
        async with self._copied(source, within) as (folder, fetched):
            inspection = await inspected(folder, self.inspect)
            async with kept(self._store, folder, fetched, inspection) as artifact:
                origin = Origin(source, None, actor, client_address())
                return await self.publish(name, origin, artifact, details)

    async def judge(self, source: str, *, within: str | None = None) -> Verdict:
        """What `register` would say to the files at `source`; nothing is kept.

        Raises SourceNotAllowed, SourceNotFound, SourceTooLarge, StoreUnavailable.
        """
        try:
            async with self._copied(source, within) as (folder, _):
                return await inspected(folder, self._judge)
        except InvalidAdapter as problem:  # a file that nobody may copy
            return Verdict.refused(problem)

    @asynccontextmanager
    async def _copied(
        self, source: str, within: str | None
    ) -> AsyncIterator[tuple[Path, FetchedSource]]:
        """A copy in quarantine, for as long as the block takes."""
        local = await asyncio.to_thread(self._store.local, source, within=within)
        async with new_workspace(self._store) as workspace:
            with storing():
                folder = await asyncio.to_thread(workspace.empty_folder)
                fetched = await local.fetch(folder, self._store.limits, Progress())
            yield folder, fetched

    def check_new_name(self, name: str) -> None:
        """Raises InvalidReference, NameReserved."""
        check_name(name)
        if name in self._reserved_names:
            raise NameReserved(name)

    def inspect(self, folder: Path) -> Inspection:
        """Raises InvalidAdapter."""
        return inspect_adapter(folder, self._base_model, self._max_rank)

    def _judge(self, folder: Path) -> Verdict:
        return judge_adapter(folder, self._base_model, self._max_rank)

    async def publish(
        self,
        name: str,
        origin: Origin,
        artifact: StoredArtifact,
        details: VersionDetails | None = None,
        *,
        along: Along | None = None,
    ) -> Registration:
        """Make what is in the store a version; what `along` writes is committed with it.

        The same content again is the version that it already is; one that was purged or rejected
        is ready again. The first version of an adapter becomes its `default`. The description in
        `details` is a new adapter's too. Raises UnknownAdapter and UnknownVersion for the parent,
        MetadataTooLarge, TenantLimit, DatabaseUnavailable, and whatever `along` raises.
        """
        details = details or VersionDetails()
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.transaction(adapter=name) as session:
                    registration = await publish(session, name, origin, artifact, details)
                    if registration.created or registration.restored:
                        await self.quotas.check_storage(session, name)
                    if along is not None:
                        await along(session, registration)
            except IntegrityError:  # PostgreSQL: somebody made the same adapter meanwhile
                continue
            return registration
        raise DatabaseUnavailable(f"too many changes of {name} at once: try again")
