"""Everything that can be asked of the registry; nothing here changes it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from registry.db import Database
from registry.errors import UnknownAdapter, UnknownAlias, UnknownVersion, VersionNotServable
from registry.models import SERVABLE, Adapter, Event, Version, row_id
from registry.names import DEFAULT_ALIAS, AdapterReference
from registry.pages import Page, key_of, number_of, token_after
from registry.repository import RegistryRepository
from registry.values import AliasState, PublishedVersion, ResolvedVersion

Item = TypeVar("Item")


class Catalog:
    """Reads adapters, versions, aliases and events; each call is one short session."""

    def __init__(self, database: Database, path_of: Callable[[str], Path]) -> None:
        self._database = database
        self._path_of = path_of

    @property
    def generation(self) -> int:
        """Grows with every committed change: answers of an older generation may be stale."""
        return self._database.generation

    # ---- resolving -----------------------------------------------------------------------

    async def resolve(self, reference: AdapterReference) -> ResolvedVersion:
        """What the reference means now.

        Raises UnknownAdapter, UnknownAlias, UnknownVersion, VersionNotServable.
        """
        async with self._database.reading() as session:
            repository = RegistryRepository(session)
            adapter = await known_adapter(repository, reference.adapter)
            version = await _referred(repository, row_id(adapter), reference)
        if version.state not in SERVABLE:
            raise VersionNotServable(f"{adapter.name}:{version.number}", version.state)
        return ResolvedVersion(
            adapter=adapter.name,
            number=version.number,
            version_id=row_id(version),
            digest=version.digest,
            path=self._path_of(version.digest),
            rank=version.rank,
            size_bytes=version.size_bytes,
            state=version.state,
        )

    async def served_references(self) -> list[str]:
        """Every alias that can be asked for: `name` for its default, `name@alias` for the rest."""
        async with self._database.reading() as session:
            served = await RegistryRepository(session).served()
        return [
            str(AdapterReference(name, None if alias == DEFAULT_ALIAS else alias))
            for name, alias in served
        ]

    # ---- looking up ----------------------------------------------------------------------

    async def adapters(self, *, limit: int, page_token: str | None = None) -> Page[Adapter]:
        """One page by name. Raises InvalidPageToken."""
        after = key_of(page_token) or ""
        async with self._database.reading() as session:
            rows = await RegistryRepository(session).adapters(after=after, limit=limit + 1)
        return _page(rows, limit, lambda adapter: adapter.name)

    async def adapter(self, name: str) -> Adapter:
        """Raises UnknownAdapter."""
        async with self._database.reading() as session:
            return await known_adapter(RegistryRepository(session), name)

    async def version(self, name: str, number: int) -> PublishedVersion:
        """In whatever state it is. Raises UnknownAdapter, UnknownVersion."""
        async with self._database.reading() as session:
            repository = RegistryRepository(session)
            adapter = await known_adapter(repository, name)
            reference = AdapterReference(name, version=number)
            version = await _referred(repository, row_id(adapter), reference)
        return PublishedVersion(name, version)

    async def versions(
        self, name: str, *, limit: int, page_token: str | None = None
    ) -> Page[PublishedVersion]:
        """One page by number. Raises UnknownAdapter, InvalidPageToken."""
        after = number_of(page_token)
        rows = await self._of_adapter(
            name, lambda repository, id_: repository.versions(id_, after=after, limit=limit + 1)
        )
        published = [PublishedVersion(name, version) for version in rows]
        return _page(published, limit, lambda item: item.version.number)

    async def aliases(self, name: str) -> list[AliasState]:
        """All aliases of an adapter by name. Raises UnknownAdapter."""
        rows = await self._of_adapter(name, lambda repository, id_: repository.aliases(id_))
        return [AliasState(alias, number) for alias, number in rows]

    async def events(self, name: str, *, limit: int, page_token: str | None = None) -> Page[Event]:
        """One page of an adapter's history, the oldest first. Raises as `versions` does."""
        after = number_of(page_token)
        rows = await self._of_adapter(
            name, lambda repository, id_: repository.events(id_, after=after, limit=limit + 1)
        )
        return _page(rows, limit, row_id)

    async def _of_adapter(
        self, name: str, query: Callable[[RegistryRepository, int], Awaitable[Sequence[Item]]]
    ) -> Sequence[Item]:
        async with self._database.reading() as session:
            repository = RegistryRepository(session)
            adapter = await known_adapter(repository, name)
            return await query(repository, row_id(adapter))


async def known_adapter(repository: RegistryRepository, name: str) -> Adapter:
    """Raises UnknownAdapter."""
    adapter = await repository.adapter(name)
    if adapter is None:
        raise UnknownAdapter(name)
    return adapter


async def _referred(
    repository: RegistryRepository, adapter_id: int, reference: AdapterReference
) -> Version:
    if reference.version is not None:
        version = await repository.version(adapter_id, reference.version)
        if version is None:
            raise UnknownVersion(reference.adapter, reference.version)
        return version
    alias = reference.alias or DEFAULT_ALIAS
    version = await repository.aliased_version(adapter_id, alias)
    if version is None:
        raise UnknownAlias(reference.adapter, alias)
    return version


def _page(rows: Sequence[Item], limit: int, key: Callable[[Item], str | int]) -> Page[Item]:
    """`rows` holds one more than `limit` if there is a next page."""
    items = rows[:limit]
    more = len(rows) > limit
    return Page(items, token_after(key(items[-1])) if more else None)
