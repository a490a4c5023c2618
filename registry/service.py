"""The registry's changes. Each is one transaction; files are settled before the row is."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry.arrival import inspected, kept, new_workspace
from registry.artifacts import ArtifactStore, StoredArtifact, storing
from registry.base_model import BaseModel
from registry.catalog import Catalog, known_adapter
from registry.db import Database
from registry.errors import (
    AliasMoved,
    DatabaseUnavailable,
    NameReserved,
    UnknownVersion,
    VersionNotServable,
)
from registry.inspect import Inspection, inspect_adapter
from registry.models import (
    SERVABLE,
    Adapter,
    Alias,
    Event,
    EventKind,
    Version,
    VersionState,
    now,
    row_id,
)
from registry.names import DEFAULT_ALIAS, check_name
from registry.repository import RegistryRepository
from registry.sources.port import Progress
from registry.values import AliasState, Origin, PublishedVersion, Registration

_ATTEMPTS = 5

Along = Callable[[AsyncSession, Registration], Awaitable[None]]

ANYWHERE = -1
"""As `expected_version`: move the alias wherever it is now."""


class RegistryService:
    """Publishes adapters for one base model. `catalog` answers questions."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        base_model: BaseModel,
        *,
        max_rank: int,
        reserved_names: frozenset[str] = frozenset(),
    ) -> None:
        self.catalog = Catalog(database, store.path_of)
        self._database = database
        self._store = store
        self._base_model = base_model
        self._max_rank = max_rank
        self._reserved_names = reserved_names

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        await self._database.ping()

    async def register(
        self, name: str, source: str, *, actor: str, description: str | None = None
    ) -> Registration:
        """Verify the files at `source` and publish them as the adapter's next version.

        The same content again is the version that it already is. The first version of an adapter
        becomes its `default`. Raises InvalidReference, NameReserved, SourceNotAllowed,
        SourceNotFound, SourceTooLarge, InvalidAdapter, StoreUnavailable, DatabaseUnavailable.
        """
        self.check_new_name(name)
        local = await asyncio.to_thread(self._store.local, source)
        async with new_workspace(self._store) as workspace:
            with storing():
                folder = await asyncio.to_thread(workspace.empty_folder)
                fetched = await local.fetch(folder, self._store.limits, Progress())
            inspection = await inspected(folder, self.inspect)
            async with kept(self._store, folder, fetched, inspection) as artifact:
                origin = Origin(source, None, actor)
                return await self.publish(name, origin, artifact, description=description)

    def check_new_name(self, name: str) -> None:
        """Raises InvalidReference, NameReserved."""
        check_name(name)
        if name in self._reserved_names:
            raise NameReserved(name)

    def inspect(self, folder: Path) -> Inspection:
        """Raises InvalidAdapter."""
        return inspect_adapter(folder, self._base_model, self._max_rank)

    async def publish(
        self,
        name: str,
        origin: Origin,
        artifact: StoredArtifact,
        *,
        description: str | None = None,
        along: Along | None = None,
    ) -> Registration:
        """Make what is in the store a version; what `along` writes is committed with it.

        Raises DatabaseUnavailable, and whatever `along` raises.
        """
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.transaction() as session:
                    registration = await _publish(session, name, origin, artifact, description)
                    if along is not None:
                        await along(session, registration)
            except IntegrityError:  # PostgreSQL: somebody made the same adapter meanwhile
                continue
            return registration
        raise DatabaseUnavailable(f"too many changes of {name} at once: try again")

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
        """Point the alias at a version, if it is where the caller last saw it.

        `expected_version` None: it must not exist yet. Raises AliasMoved, UnknownAdapter,
        UnknownVersion, VersionNotServable, InvalidReference.
        """
        check_name(alias, what="alias")
        async with self._database.transaction() as session:
            repository = RegistryRepository(session)
            adapter = await known_adapter(repository, name)
            version = await repository.version(row_id(adapter), number)
            if version is None:
                raise UnknownVersion(name, number)
            if version.state not in SERVABLE:
                raise VersionNotServable(f"{name}:{number}", version.state)
            current = await repository.aliased_version(row_id(adapter), alias)
            found = current.number if current else None
            if expected_version not in (ANYWHERE, found):
                raise AliasMoved(f"{name}@{alias}", expected_version, found)
            row = await _point(repository, alias, version, actor, reason, found)
        return AliasState(row, number)

    async def quarantine(self, version_id: int, reason: str, code: str, actor: str) -> None:
        """Serve a version no more because of what was found."""
        async with self._database.transaction() as session:
            version = await session.get(Version, version_id)
            if version is None or version.state not in SERVABLE:
                return
            version.state = VersionState.QUARANTINED
            version.state_reason = f"{code}: {reason}"[:1024]


async def _publish(
    session: AsyncSession,
    name: str,
    origin: Origin,
    artifact: StoredArtifact,
    description: str | None,
) -> Registration:
    repository = RegistryRepository(session)
    adapter = await repository.adapter(name, alone=True)
    if adapter is None:
        adapter = await repository.add(Adapter(name=name, description=description))
    known = await repository.version_with_digest(row_id(adapter), artifact.digest)
    if known is not None:
        return Registration(PublishedVersion(name, known), created=False)
    number = await repository.last_number(row_id(adapter)) + 1
    version = _version(row_id(adapter), number, origin, artifact)
    await repository.add(version)
    await repository.add(
        Event(
            actor=origin.actor,
            kind=EventKind.VERSION_REGISTERED,
            adapter_id=row_id(adapter),
            to_version=number,
        )
    )
    if number == 1:
        await _point(repository, DEFAULT_ALIAS, version, origin.actor, reason="first version")
    return Registration(PublishedVersion(name, version), created=True)


async def _point(
    repository: RegistryRepository,
    alias: str,
    version: Version,
    actor: str,
    reason: str | None,
    from_version: int | None = None,
) -> Alias:
    """Move or make the alias and note who did it."""
    row = await repository.alias(version.adapter_id, alias)
    if row is None:
        row = Alias(adapter_id=version.adapter_id, name=alias, version_id=row_id(version))
    row.version_id = row_id(version)
    row.moved_at = now()
    await repository.add(row)
    await repository.add(
        Event(
            actor=actor,
            kind=EventKind.ALIAS_MOVED,
            adapter_id=version.adapter_id,
            alias=alias,
            from_version=from_version,
            to_version=version.number,
            reason=reason,
        )
    )
    return row


def _version(adapter_id: int, number: int, origin: Origin, artifact: StoredArtifact) -> Version:
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
        source=origin.source,
        revision=origin.revision,
        peft_config=inspection.peft_config,
        created_by=origin.actor,
    )
