"""The registry's changes. Each is one transaction; files are settled before the row is."""

import asyncio
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry.alias_catalog import AliasCatalog
from registry.aliases import ANYWHERE, AliasService, point
from registry.artifacts import ArtifactStore, StoredArtifact
from registry.base_model import BaseModel
from registry.catalog import Catalog
from registry.changes import Change
from registry.db import Database
from registry.errors import DatabaseUnavailable, NameReserved
from registry.exporter import Exporter
from registry.garbage import GarbageCollector
from registry.importer import Importer
from registry.inspect import Inspection, inspect_adapter
from registry.lifecycle import LifecycleService, UsedNow
from registry.metadata import MetadataService, VersionDetails, describe
from registry.models import Adapter, EventKind, Version, VersionState, row_id
from registry.names import DEFAULT_ALIAS, check_name
from registry.repository import RegistryRepository
from registry.states import change_state
from registry.term_repository import TermRepository
from registry.terms import adapter_terms, version_terms
from registry.trash import Trash
from registry.values import AliasState, PublishedVersion, Registration

_ATTEMPTS = 5


class RegistryService:
    """Publishes adapters for one base model, and holds the services of each other subject.

    `catalog` and `alias_catalog` answer questions; `aliases`, `lifecycle`, `metadata` and
    `garbage` change things; `exporter` and `importer` carry all of it to another registry.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        base_model: BaseModel,
        *,
        max_rank: int,
        reserved_names: frozenset[str] = frozenset(),
        max_import_bytes: int = 2**40,
    ) -> None:
        trash = Trash(store.path_of)
        self.catalog = Catalog(database, store.path_of)
        self.alias_catalog = AliasCatalog(database)
        self.aliases = AliasService(database)
        self.lifecycle = LifecycleService(database, trash, store.path_of)
        self.metadata = MetadataService(database)
        self.garbage = GarbageCollector(database, trash, self.lifecycle)
        self.exporter = Exporter(database, store.path_of, store.workspace, base_model.name)
        self.importer = Importer(
            database,
            store,
            trash,
            self._inspect,
            reserved_names=reserved_names,
            max_bytes=max_import_bytes,
        )
        self._database = database
        self._store = store
        self._base_model = base_model
        self._max_rank = max_rank
        self._reserved_names = reserved_names

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        await self._database.ping()

    async def tidy_up(self) -> None:
        """To be called at the start: ends what a crash cut short."""
        await self.lifecycle.tidy_up()

    def ask_before_purging(self, used_now: UsedNow) -> None:
        """Versions that an engine uses (row id → whether) are not purged."""
        self.lifecycle.used_now = used_now

    async def register(
        self,
        name: str,
        source: str,
        *,
        actor: str,
        description: str | None = None,
        details: VersionDetails | None = None,
    ) -> Registration:
        """Verify the files at `source` and publish them as the adapter's next version.

        The same content again is the version that it already is; one that was purged or rejected
        is ready again. The first version of an adapter becomes its `default`. `description` is for
        a new adapter. Raises InvalidReference, NameReserved, SourceNotAllowed, SourceNotFound,
        SourceTooLarge, InvalidAdapter, UnknownAdapter and UnknownVersion for the parent,
        MetadataTooLarge, StoreUnavailable, DatabaseUnavailable.
        """
        check_name(name)
        if name in self._reserved_names:
            raise NameReserved(name)
        details = details or VersionDetails()
        artifact = await self._ingest(source)
        for _ in range(_ATTEMPTS):
            try:
                return await self._publish(name, source, artifact, actor, description, details)
            except _FilesPurged:
                artifact = await self._ingest(source)
            except IntegrityError:  # PostgreSQL: somebody made the same adapter meanwhile
                continue
        raise DatabaseUnavailable(f"too many changes of {name} at once: try again")

    async def _ingest(self, source: str) -> StoredArtifact:
        return await asyncio.to_thread(self._store.ingest, source, self._inspect)

    def _inspect(self, folder: Path) -> Inspection:
        return inspect_adapter(folder, self._base_model, self._max_rank)

    def _files_exist(self, digest: str) -> bool:
        return self._store.path_of(digest).is_dir()

    async def _publish(
        self,
        name: str,
        source: str,
        artifact: StoredArtifact,
        actor: str,
        description: str | None,
        details: VersionDetails,
    ) -> Registration:
        async with self._database.transaction(adapter=name) as session:
            adapter = await _adapter(session, name, description)
            change = Change(session, adapter, actor)
            await change.repository.hold_files(artifact.digest)
            if not self._files_exist(artifact.digest):
                raise _FilesPurged
            last, known = await change.repository.last_number_and_digest(
                row_id(adapter), artifact.digest
            )
            if known is not None:
                published = await _publish_again(change, await change.version(known))
                return Registration(published, created=False)
            version = _version(row_id(adapter), last + 1, source, artifact, actor)
            published = await _publish_new(change, version, details)
        return Registration(published, created=True)

    async def set_alias(
        self,
        name: str,
        alias: str,
        number: int,
        *,
        actor: str,
        expected_version: int | None = ANYWHERE,
        reason: str | None = None,
    ) -> AliasState:
        """The switch: all requests for the alias get that version from the next one on.

        Raises what `AliasService.point` raises.
        """
        return await self.aliases.point(
            name,
            alias,
            {number: 1},
            actor=actor,
            expected_version=expected_version,
            reason=reason,
        )

    async def quarantine(
        self, version_id_or_reference: int | str, reason: str, code: str, actor: str
    ) -> PublishedVersion:
        """Serve a version no more because of what was found; `code` is stable, for programs.

        Raises what `LifecycleService.quarantine` raises.
        """
        return await self.lifecycle.quarantine(version_id_or_reference, reason, code, actor)


class _FilesPurged(Exception):
    """Between their arrival in the store and their row, somebody purged the same files."""


async def _adapter(session: AsyncSession, name: str, description: str | None) -> Adapter:
    """Held until the end of the transaction, and made if it is new."""
    repository = RegistryRepository(session)
    adapter = await repository.adapter(name, hold=True)
    if adapter is None:
        adapter = await repository.add(Adapter(name=name, description=description))
        await TermRepository(session).add_adapter(name, adapter_terms(adapter))
    return adapter


async def _publish_new(
    change: Change, version: Version, details: VersionDetails
) -> PublishedVersion:
    """As the adapter's next version, and as its default if it is the first."""
    name = change.adapter.name
    parent = await describe(change.repository, version, details)
    await change.repository.add(version)
    await TermRepository(change.session).add_version(row_id(version), version_terms(name, version))
    await change.note(EventKind.VERSION_REGISTERED, to_version=version.number)
    if version.number == 1:
        await point(change, DEFAULT_ALIAS, {1: 1}, "first version", current=None)
    return PublishedVersion(name, version, parent)


async def _publish_again(change: Change, known: Version) -> PublishedVersion:
    """What somebody retired or quarantined stays so; what had lost its files has them again."""
    if known.state in (VersionState.PURGED, VersionState.REJECTED):
        change_state(known, VersionState.READY, change.reference(known.number))
        await change.note(
            EventKind.VERSION_RESTORED, to_version=known.number, reason="registered again"
        )
    return await change.published(known)


def _version(
    adapter_id: int, number: int, source: str, artifact: StoredArtifact, actor: str
) -> Version:
    inspection = artifact.inspection
    return Version(
        adapter_id=adapter_id,
        number=number,
        digest=artifact.digest,
        rank=inspection.rank,
        alpha=inspection.alpha,
        target_modules=list(inspection.target_modules),
        dtype=inspection.dtype,
        base_model=inspection.base_model,
        size_bytes=artifact.size_bytes,
        source=source,
        peft_config=inspection.peft_config,
        created_by=actor,
        # given, as pydantic 2.14 looks at each factory's signature each time, which takes longer
        tags=[],
        user_metadata={},
    )
