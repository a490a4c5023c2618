"""Registrar: verifies an adapter's files, stores them, and publishes them as a version."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.catalog.metadata import VersionDetails
from registry.catalog.types import Origin, Registration
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, InvalidAdapter, NameReserved
from registry.ingest.content_digests import ContentDigests, MissingDigests
from registry.ingest.inspection_places import InspectionPlaces
from registry.ingest.outcome import OutcomeObserver, null_outcome_observer, observe_outcome
from registry.ingest.pipeline import fetch, inspect, keep, new_workspace
from registry.ingest.precedence import NO_REST, Rest
from registry.ingest.publish import publish
from registry.inspection.base_identity import BaseIdentity
from registry.inspection.base_model import BaseModel
from registry.inspection.fit import find_misfit
from registry.inspection.inspector import Inspection, Verdict, inspect_adapter, judge_adapter
from registry.inspection.peft_config import config_problems, read_json_config
from registry.quotas.service import TenantQuotas
from registry.references import check_name
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.disks.store_threads import STEPS
from registry.sources.local import LocalSource
from registry.storage.store import ArtifactStore, StoredArtifact, storage_errors

_ATTEMPTS = 5

InTransaction = Callable[[AsyncSession, Registration], Awaitable[None]]


class Registrar:
    """Registers adapters for one base model. Files are durable before the row is committed."""

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
        self.max_rank = max_rank
        self._reserved_names = reserved_names
        self._contents = ContentDigests(database, store.path_of)
        self._observer: OutcomeObserver = null_outcome_observer
        self._inspections = InspectionPlaces()
        self._base_ids: dict[tuple[str, str], int] = {}  # by name and digest

    def observe_outcomes(self, observer: OutcomeObserver) -> None:
        """Report outcomes of direct registrations; those of jobs are in the database."""
        self._observer = observer

    async def register(
        self,
        name: str,
        source: str,
        *,
        actor: str,
        details: VersionDetails | None = None,
        within: str | None = None,
        rest: Rest = NO_REST,
    ) -> Registration:
        """Verify the files at `source` and publish them as the adapter's next version.

        `within`: the calling tenant; only its folders may be read.

        Raises what `publish` raises; InvalidReference, NameReserved, SourceNotAllowed,
        SourceNotFound, SourceTooLarge, SourceTimeout, InvalidAdapter, StoreUnavailable.
        """
        self.check_new_name(name)
        with observe_outcome(self._observer) as set_size:
            registration = await self._register(name, source, actor, details, within, rest)
            set_size(registration.published.version.size_bytes)
        return registration

    async def _register(
        self,
        name: str,
        source: str,
        actor: str,
        details: VersionDetails | None,
        within: str | None,
        rest: Rest,
    ) -> Registration:
        await rest.take()
        limits = await self.fetch_limits(name)
        local = await self._store.local(source, within=within)
        async with self._quarantine(local, limits) as (folder, fetched):
            await rest.take()
            inspection = await inspect(folder, partial(self.inspect, remarks=fetched.remarks))
            async with keep(self._store, folder, fetched, inspection) as artifact:
                await rest.take()
                origin = Origin(source, None, actor, client_address())
                return await self.publish(name, origin, artifact, details, rest=rest)

    async def judge(self, source: str, *, within: str | None = None) -> Verdict:
        """The verdict that `register` would reach on the files at `source`; nothing is stored.

        Raises SourceNotAllowed, SourceNotFound, SourceTooLarge, SourceTimeout, StoreUnavailable,
        TooManyInspections.
        """
        local = await self._store.local(source, within=within)
        try:
            async with (
                self._inspections.hold(local.share.owner),
                self._quarantine(local, self._store.limits) as (folder, fetched),
            ):
                return await inspect(folder, partial(self._judge, remarks=fetched.remarks))
        except InvalidAdapter as problem:  # a file that can't be copied
            return Verdict.from_problem(problem)

    @asynccontextmanager
    async def _quarantine(
        self, local: LocalSource, limits: FetchLimits
    ) -> AsyncIterator[tuple[Path, FetchedSource]]:
        """Context manager around a copy in quarantine."""
        async with new_workspace(self._store) as workspace:
            with storage_errors():
                folder = await STEPS.run(workspace.empty_folder)
            fetched = await fetch(local, folder, limits, Progress())
            yield folder, fetched

    async def fetch_limits(self, name: str) -> FetchLimits:
        """Limits of the server and the tenant for an adapter. Raises DatabaseUnavailable."""
        limits = await self.quotas.fetch_limits(name, self._store.limits)
        return replace(limits, check_config=self._check_config)

    def _check_config(self, folder: Path) -> None:
        """Raises InvalidAdapter."""
        for problem in config_problems(read_json_config(folder), self.max_rank):
            raise problem

    def check_new_name(self, name: str) -> None:
        """Raises InvalidReference, NameReserved."""
        check_name(name)
        if name in self._reserved_names:
            raise NameReserved(name)

    def inspect(self, folder: Path, remarks: Sequence[tuple[str, str]] = ()) -> Inspection:
        """Raises InvalidAdapter."""
        return inspect_adapter(folder, self._base_model, self.max_rank, remarks)

    def find_misfit(self, folder: Path) -> InvalidAdapter | None:
        """Why this engine can't serve an adapter that was accepted, perhaps for another one.

        Raises InvalidAdapter if the files are not those of an adapter, EngineAway, and OSError.
        """
        return find_misfit(folder, self._base_model, self.max_rank)

    def _judge(self, folder: Path, remarks: Sequence[tuple[str, str]]) -> Verdict:
        return judge_adapter(folder, self._base_model, self.max_rank, remarks)

    async def publish(
        self,
        name: str,
        origin: Origin,
        artifact: StoredArtifact,
        details: VersionDetails | None = None,
        *,
        in_transaction: InTransaction | None = None,
        rest: Rest = NO_REST,
    ) -> Registration:
        """Publish stored files as a version; what `in_transaction` writes is committed with it.

        Known content yields its existing version, however its files are written; one that was
        purged or rejected becomes ready again. The first version of an adapter becomes its
        `default`. The description in `details` is a new adapter's too. Raises OtherBaseModel for
        content that another base model has, UnknownAdapter and UnknownVersion for the parent,
        MetadataTooLarge, TenantLimit, DatabaseUnavailable, and what `in_transaction` raises.
        """
        details = details or VersionDetails()
        is_filled = False
        base = self._base_model.identity
        write = partial(self._write, name, origin, artifact, details, base, in_transaction, rest)
        for _ in range(_ATTEMPTS):
            try:
                attempt = partial(write, find_missing_digests=not is_filled)
                registration = await self._database.run(attempt, adapter=name)
            except IntegrityError:  # PostgreSQL: the same adapter was created concurrently
                self._base_ids.clear()
                continue
            except MissingDigests as missing:  # files are read outside of the transaction
                await self._contents.fill(missing.rows)
                is_filled = True
                continue
            if registration.created and (base_id := registration.published.version.base_id):
                self._base_ids[base.name, base.digest] = base_id  # committed
            return registration
        raise DatabaseUnavailable(f"too many concurrent changes of {name}: try again")

    async def _write(
        self,
        name: str,
        origin: Origin,
        artifact: StoredArtifact,
        details: VersionDetails,
        base: BaseIdentity,
        in_transaction: InTransaction | None,
        rest: Rest,
        session: AsyncSession,
        *,
        find_missing_digests: bool,
    ) -> Registration:
        """Within the transaction. It awaits nothing but its session."""
        registration = await publish(
            session,
            name,
            origin,
            artifact,
            details,
            base,
            base_id=self._base_ids.get((base.name, base.digest)),
            find_missing_digests=find_missing_digests,
            rest=rest,
        )
        if registration.created or registration.restored:
            await self.quotas.check_storage(session, name)
        await rest.take()
        if in_transaction is not None:
            await in_transaction(session, registration)
        return registration
