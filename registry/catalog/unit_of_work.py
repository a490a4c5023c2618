"""Unit of work: one transaction that locks an adapter and writes the event of its change."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.bases.repository import BaseRepository
from registry.catalog.alias_repository import AliasRepository
from registry.catalog.further_numbers import further_numbers
from registry.catalog.repository import RegistryRepository
from registry.catalog.types import PublishedVersion
from registry.database.engine import Database
from registry.database.observer import add_committed_row
from registry.database.row_insert import insert_row
from registry.errors import UnknownAdapter, UnknownVersion
from registry.models import Adapter, Event, EventKind, Version, row_id
from registry.redaction import redact_keys
from registry.references import check_name


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """A transaction on one adapter, which no other transaction changes meanwhile."""

    session: AsyncSession
    adapter: Adapter
    actor: str
    address: str | None

    @property
    def adapter_id(self) -> int:
        return row_id(self.adapter)

    @property
    def repository(self) -> RegistryRepository:
        return RegistryRepository(self.session)

    @property
    def aliases(self) -> AliasRepository:
        return AliasRepository(self.session)

    def reference(self, number: int) -> str:
        return f"{self.adapter.name}:{number}"

    async def version(self, number: int) -> Version:
        """Raises UnknownVersion."""
        version = await self.repository.version(self.adapter_id, number)
        if version is None:
            raise UnknownVersion(self.adapter.name, number)
        return version

    async def published_version(self, version: Version) -> PublishedVersion:
        """The version with its references, as clients see it."""
        return await published(self.session, self.adapter.name, version)

    async def add_event(
        self,
        kind: EventKind,
        *,
        alias: str | None = None,
        from_version: int | None = None,
        to_version: int | None = None,
        reason: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the event of this change."""
        event = Event(
            actor=self.actor,
            address=self.address,
            kind=kind,
            adapter_id=self.adapter_id,
            alias=alias,
            from_version=from_version,
            to_version=to_version,
            reason=None if reason is None else redact_keys(reason),
            data=dict(data or {}),
        )
        await insert_row(self.session, event)
        add_committed_row(self.session, event)


async def published(session: AsyncSession, name: str, version: Version) -> PublishedVersion:
    """A version of the adapter of this name, with what other tables know of it."""
    parent = await RegistryRepository(session).reference_of(version.parent_id)
    base = await BaseRepository(session).name_of(version.base_id)
    further = await further_numbers(session, [row_id(version)])
    return PublishedVersion(name, version, parent, base, further.get(row_id(version), ()))


@asynccontextmanager
async def adapter_transaction(
    database: Database, name: str, actor: str, *, changes: str | None = None
) -> AsyncIterator[UnitOfWork]:
    """Commit at the end of the block, or roll back.

    `changes`: what caches have to read again, if that is not what the adapter's references mean.
    Raises InvalidReference, UnknownAdapter.
    """
    check_name(name)
    async with database.transaction(adapter=changes or name) as session:
        adapter = await RegistryRepository(session).adapter(name, lock=True)
        if adapter is None:
            raise UnknownAdapter(name)
        yield UnitOfWork(session, adapter, actor, client_address())
