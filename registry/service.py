"""The registry's changes. Each is one transaction; files are settled before the row is."""

import asyncio
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from registry.artifacts import ArtifactStore, StoredArtifact
from registry.base_model import BaseModel
from registry.catalog import Catalog, known_adapter
from registry.db import Database
from registry.errors import AliasMoved, NameReserved, UnknownVersion, VersionNotServable
from registry.inspect import Inspection, Verdict, inspect_adapter, judge_adapter
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
from registry.values import AliasState, PublishedVersion, Registration

_ATTEMPTS = 5

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
        check_name(name)
        if name in self._reserved_names:
            raise NameReserved(name)
        artifact = await asyncio.to_thread(self._store.ingest, source, self._inspect)
        attempt = 1
        while True:
            try:
                return await self._publish(name, source, artifact, actor, description)
            except IntegrityError:  # PostgreSQL: somebody took the name or the number meanwhile
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1

    async def judge(self, source: str) -> Verdict:
        """What `register` would say to the files at `source`; nothing is kept.

        Raises SourceNotAllowed, SourceNotFound, SourceTooLarge, StoreUnavailable.
        """
        return await asyncio.to_thread(self._store.try_out, source, self._judge)

    def _judge(self, folder: Path) -> Verdict:
        return judge_adapter(folder, self._base_model, self._max_rank)

    def _inspect(self, folder: Path) -> Inspection:
        return inspect_adapter(folder, self._base_model, self._max_rank)

    async def _publish(
        self, name: str, source: str, artifact: StoredArtifact, actor: str, description: str | None
    ) -> Registration:
        async with self._database.transaction() as session:
            repository = RegistryRepository(session)
            adapter = await repository.adapter(name)
            if adapter is None:
                adapter = await repository.add(Adapter(name=name, description=description))
            known = await repository.version_with_digest(row_id(adapter), artifact.digest)
            if known is not None:
                return Registration(PublishedVersion(name, known), created=False)
            number = await repository.last_number(row_id(adapter)) + 1
            version = _version(row_id(adapter), number, source, artifact, actor)
            await repository.add(version)
            await repository.add(
                Event(
                    actor=actor,
                    kind=EventKind.VERSION_REGISTERED,
                    adapter_id=row_id(adapter),
                    to_version=number,
                )
            )
            if number == 1:
                await _point(repository, DEFAULT_ALIAS, version, actor, reason="first version")
        return Registration(PublishedVersion(name, version), created=True)

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
        inspection=inspection.report,
        created_by=actor,
    )
