"""Read-only queries on adapters and versions: resolve, look up, list."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.visibility import Reader
from registry.bases.repository import BaseRepository
from registry.catalog.alias_repository import AliasRepository
from registry.catalog.listing_repository import ListingRepository
from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.resolution_rows import select_rows, select_training
from registry.catalog.types import PublishedVersion, Resolution, ResolvedVersion, ServedReference
from registry.catalog.unit_of_work import published
from registry.database.change_counter import ChangeCounter
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.database.pagination import Page, name_of, number_of, page_of
from registry.errors import OtherBaseModel, UnknownVersion, VersionUnavailable
from registry.inspection.base_identity import BaseIdentity
from registry.models import SERVABLE, Adapter, VersionState, row_id
from registry.references import AdapterReference
from registry.search.filters import AdapterFilter, VersionFilter

Item = TypeVar("Item")


class Catalog:
    """Read-only; each call is one short session. Only versions bound to `base` are resolved."""

    def __init__(
        self,
        database: Database,
        path_of: Callable[[str], Path],
        poller: ChangePoller | None = None,
        *,
        base: BaseIdentity | None = None,
    ) -> None:
        self._database = database
        self._path_of = path_of
        self._base = base
        self._poller = poller or ChangePoller(database)

    def for_base(self, base: BaseIdentity) -> "Catalog":
        """The same registry, as an engine of another base model may use it."""
        return Catalog(self._database, self._path_of, self._poller, base=base)

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """For a few short queries of other subjects' reads. Raises DatabaseUnavailable."""
        return self._database.read_session()

    @property
    def change_count(self) -> int:
        """Number of committed changes; answers from before the last one may be stale."""
        return self._database.change_count

    @property
    def changes(self) -> ChangeCounter:
        """The counter that tells whether a cached answer is still valid."""
        return self._database.changes

    async def poll_changes(self) -> None:
        """Notice other processes' changes, within about a second. Call before `changes`."""
        await self._poller.poll()

    async def poll_changes_now(self) -> None:
        """Notice them immediately, after a notification of one."""
        await self._poller.poll_now()

    # ---- resolution -----------------------------------------------------------------------

    async def resolution(self, reference: AdapterReference) -> Resolution:
        """The servable versions that the reference may mean now, with their weights.

        Raises UnknownAdapter, UnknownAlias, UnknownVersion, VersionUnavailable, OtherBaseModel.
        """
        return await self.servable(await self._resolution(reference))

    async def servable(self, found: Resolution) -> Resolution:
        """What of it is servable. Raises VersionUnavailable, OtherBaseModel."""
        ready = {n: version for n, version in found.versions.items() if version.state in SERVABLE}
        if not ready:
            refused = found.main
            raise VersionUnavailable(refused.reference, refused.state, refused.state_reason)
        served = {n: version for n, version in ready.items() if version.is_served}
        if not served:
            raise await self.other_base(max(ready.values(), key=lambda v: found.weights[v.number]))
        return replace(found, versions=served, weights={n: found.weights[n] for n in served})

    async def other_base(self, version: ResolvedVersion) -> OtherBaseModel:
        """The refusal of a version that is not served here."""
        async with self._database.read_session() as session:
            bound = await BaseRepository(session).name_of(version.base_id)
        return OtherBaseModel(version.reference, bound, self._base.name if self._base else "any")

    async def _resolution(self, reference: AdapterReference) -> Resolution:
        async with self._database.read_session() as session:
            return await self.read_versions(session, reference)

    async def read_versions(self, session: AsyncSession, reference: AdapterReference) -> Resolution:
        """Versions in any state. Raises UnknownAdapter, UnknownAlias, UnknownVersion."""
        repository = RegistryRepository(session, self._base)
        adapter = await get_adapter(repository, reference.adapter)
        rows = await select_rows(repository, row_id(adapter), reference)
        training = await select_training(repository, adapter, rows)
        versions = {row.number: self._to_resolved(adapter.name, row) for row in rows}
        return Resolution(
            reference=str(reference),
            versions={n: replace(v, **training.get(n, {})) for n, v in versions.items()},
            weights={row.number: row[-1] for row in rows},
        )

    async def resolve(
        self, reference: AdapterReference, user: str | None = None
    ) -> ResolvedVersion:
        """The version for this user; without a user, the one with the largest weight.

        Raises what `resolution` raises.
        """
        resolution = await self.resolution(reference)
        return resolution.main if user is None else resolution.for_user(user)

    async def find(self, reference: AdapterReference) -> ResolvedVersion:
        """The same for a version in any state: to evict it, for example.

        Raises UnknownAdapter, UnknownAlias, UnknownVersion.
        """
        return (await self._resolution(reference)).main

    async def served_references(
        self,
        after: AdapterReference | None = None,
        limit: int = 1000,
        reader: Reader | None = None,
    ) -> list[ServedReference]:
        """The next servable aliases."""
        async with self._database.read_session() as session:
            served = await AliasRepository(session).servable_references(
                after=after, limit=limit, reader=reader, base=self._base
            )
        return [ServedReference.of_alias(*row) for row in served]

    def _to_resolved(self, adapter: str, row: Row[*tuple[Any, ...]]) -> ResolvedVersion:
        deprecated = row.state == VersionState.DEPRECATED
        return ResolvedVersion(
            adapter=adapter,
            number=row.number,
            version_id=row.id,
            digest=row.digest,
            path=self._path_of(row.digest),
            rank=row.rank,
            size_bytes=row.size_bytes,
            state=row.state,
            state_reason=row.state_reason,
            deprecated_at=row.state_changed_at if deprecated else None,
            base_id=row.base_id,
            is_served=bool(row.is_served),
            invocation_tokens=tuple(row.invocation_tokens) if row.invocation_tokens else None,
        )

    # ---- look-ups and lists ----------------------------------------------------------------------

    async def adapters(
        self,
        filters: AdapterFilter = AdapterFilter(),  # noqa: B008  # it is immutable
        *,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Adapter]:
        """One page by name. Raises InvalidPageToken."""
        after = name_of(page_token)
        async with self._database.read_session() as session:
            rows = await ListingRepository(session).adapters(filters, after=after, limit=limit + 1)
        return page_of(rows, limit, lambda adapter: adapter.name)

    async def adapter(self, name: str) -> Adapter:
        """Raises UnknownAdapter."""
        async with self._database.read_session() as session:
            return await get_adapter(RegistryRepository(session), name)

    async def version(self, name: str, number: int) -> PublishedVersion:
        """A version in any state. Raises UnknownAdapter, UnknownVersion."""
        async with self._database.read_session() as session:
            repository = RegistryRepository(session)
            adapter = await get_adapter(repository, name)
            version = await repository.version(row_id(adapter), number)
            if version is None:
                raise UnknownVersion(name, number)
            return await published(session, name, version)

    async def versions(
        self,
        filters: VersionFilter = VersionFilter(),  # noqa: B008  # it is immutable
        *,
        limit: int,
        page_token: str | None = None,
    ) -> Page[PublishedVersion]:
        """One page over all adapters, in the order of registration. Raises InvalidPageToken."""
        after = number_of(page_token)
        async with self._database.read_session() as session:
            found = await ListingRepository(session).versions(filters, after=after, limit=limit + 1)
        return page_of(found, limit, lambda item: row_id(item.version))

    async def versions_of(
        self,
        name: str,
        filters: VersionFilter = VersionFilter(),  # noqa: B008  # it is immutable
        *,
        limit: int,
        page_token: str | None = None,
    ) -> Page[PublishedVersion]:
        """One page of an adapter's versions, by number. Raises UnknownAdapter, InvalidPageToken."""
        after = number_of(page_token)

        async def query(session: AsyncSession, adapter_id: int) -> Sequence[PublishedVersion]:
            return await ListingRepository(session).versions_of(
                adapter_id, filters, after=after, limit=limit + 1
            )

        found = await self._of_adapter(name, query)
        return page_of(found, limit, lambda item: item.version.number)

    async def _of_adapter(
        self, name: str, query: Callable[[AsyncSession, int], Awaitable[Sequence[Item]]]
    ) -> Sequence[Item]:
        async with self._database.read_session() as session:
            adapter = await get_adapter(RegistryRepository(session), name)
            return await query(session, row_id(adapter))
