"""Every SQL statement of the registry. Never commits: the service owns the transaction."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import SERVABLE, Adapter, Alias, Event, Version
from registry.names import DEFAULT_ALIAS

Table = TypeVar("Table", Adapter, Version, Alias, Event)


class RegistryRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, row: Table) -> Table:
        """Insert it and learn its id."""
        self._session.add(row)
        await self._session.flush()
        return row

    # ---- adapters ------------------------------------------------------------------------

    async def adapter(self, name: str, *, alone: bool = False) -> Adapter | None:
        """`alone`: nobody else changes it, or numbers a version of it, until we commit."""
        statement = select(Adapter).where(col(Adapter.name) == name)
        if alone:
            statement = statement.with_for_update(key_share=True)
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def adapters(self, *, after: str, limit: int) -> Sequence[Adapter]:
        """The next adapters by name."""
        statement = select(Adapter).where(col(Adapter.name) > after)
        ordered = statement.order_by(col(Adapter.name)).limit(limit)
        return (await self._session.execute(ordered)).scalars().all()

    # ---- versions ------------------------------------------------------------------------

    async def version(self, adapter_id: int, number: int) -> Version | None:
        return await self._one(_version_of(adapter_id).where(col(Version.number) == number))

    async def version_with_digest(self, adapter_id: int, digest: str) -> Version | None:
        return await self._one(_version_of(adapter_id).where(col(Version.digest) == digest))

    async def aliased_version(self, adapter_id: int, alias: str) -> Version | None:
        joined = select(Version).join(Alias, col(Alias.version_id) == col(Version.id))
        return await self._one(
            joined.where(col(Alias.adapter_id) == adapter_id, col(Alias.name) == alias)
        )

    async def versions(self, adapter_id: int, *, after: int, limit: int) -> Sequence[Version]:
        """The next versions by number."""
        statement = _version_of(adapter_id).where(col(Version.number) > after)
        ordered = statement.order_by(col(Version.number)).limit(limit)
        return (await self._session.execute(ordered)).scalars().all()

    async def last_number(self, adapter_id: int) -> int:
        """The highest version number so far, 0 if there is none."""
        statement = select(func.max(col(Version.number))).where(
            col(Version.adapter_id) == adapter_id
        )
        return (await self._session.execute(statement)).scalar_one() or 0

    # ---- aliases -------------------------------------------------------------------------

    async def alias(self, adapter_id: int, name: str) -> Alias | None:
        return await self._session.get(Alias, (adapter_id, name))

    async def aliases(self, adapter_id: int) -> Sequence[Row[Alias, int]]:
        """Each alias with the number of its version, by name."""
        statement = (
            select(Alias, col(Version.number))
            .join(Version, col(Alias.version_id) == col(Version.id))
            .where(col(Alias.adapter_id) == adapter_id)
            .order_by(col(Alias.name))
        )
        return (await self._session.execute(statement)).all()

    async def served(self) -> Sequence[Row[str, str]]:
        """(adapter, alias) of every alias whose version may be served; `default` comes first."""
        statement = (
            select(col(Adapter.name), col(Alias.name))
            .join(Alias, col(Alias.adapter_id) == col(Adapter.id))
            .join(Version, col(Alias.version_id) == col(Version.id))
            .where(col(Version.state).in_(sorted(SERVABLE)))
            .order_by(col(Adapter.name), col(Alias.name) != DEFAULT_ALIAS, col(Alias.name))
        )
        return (await self._session.execute(statement)).all()

    async def events(self, adapter_id: int, *, after: int, limit: int) -> Sequence[Event]:
        """The next events of one adapter, the oldest first."""
        statement = (
            select(Event)
            .where(col(Event.adapter_id) == adapter_id, col(Event.id) > after)
            .order_by(col(Event.id))
            .limit(limit)
        )
        return (await self._session.execute(statement)).scalars().all()

    async def _one(self, statement: "Select[Version]") -> Version | None:
        return (await self._session.execute(statement)).scalar_one_or_none()


def _version_of(adapter_id: int) -> "Select[Version]":
    return select(Version).where(col(Version.adapter_id) == adapter_id)
