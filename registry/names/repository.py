"""SQL of served names. Never commits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, bindparam, case, delete, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from registry.auth.visibility import Reader
from registry.bases.scope import serves_version
from registry.catalog.alias_repository import is_current
from registry.inspection.base_identity import BaseIdentity
from registry.models import SERVABLE, Adapter, Alias, AliasHistory, ServedName, Version
from registry.references import DEFAULT_ALIAS, PLATFORM, AdapterReference

_PLATFORM_NAMES = 0x31C7D9A04E5B6F28  # an arbitrary advisory lock key

_Own: Any = aliased(ServedName, name="own_name")

_HOLDER = (
    select(col(Adapter.name))
    .join(ServedName, col(ServedName.adapter_id) == col(Adapter.id))
    .where(col(ServedName.owner) == bindparam("owner"), col(ServedName.name) == bindparam("name"))
)


@dataclass(frozen=True, slots=True)
class NameTarget:
    """A served name, and the reference that it stands for."""

    owner: str
    name: str
    reference: AdapterReference


class NameRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_platform(self, *, alone: bool) -> None:
        """Until the transaction ends, the platform's names and adapters don't take one text both.

        `alone` for a transaction that sets a name; those that add adapters may do so together. Only
        needed on PostgreSQL: on SQLite there is one writer at a time.
        """
        if self._session.get_bind().dialect.name == "postgresql":
            kind = "" if alone else "_shared"
            lock = text(f"SELECT pg_advisory_xact_lock{kind}(:key)")
            await self._session.execute(lock, {"key": _PLATFORM_NAMES})

    async def find(self, owner: str, name: str) -> tuple[ServedName, str] | None:
        """The row, and its adapter's name."""
        statement = (
            select(ServedName, col(Adapter.name))
            .join(Adapter, col(ServedName.adapter_id) == col(Adapter.id))
            .where(col(ServedName.owner) == owner, col(ServedName.name) == name)
        )
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def holder(self, owner: str, name: str) -> str | None:
        """The name of the adapter that has it."""
        found = await self._session.execute(_HOLDER, {"owner": owner, "name": name})
        return found.scalar_one_or_none()

    async def of_adapter(self, adapter_id: int) -> Sequence[ServedName]:
        """All of an adapter's, by name."""
        statement = select(ServedName).where(col(ServedName.adapter_id) == adapter_id)
        ordered = statement.order_by(col(ServedName.name))
        return (await self._session.execute(ordered)).scalars().all()

    async def count(self, adapter_id: int) -> int:
        statement = select(func.count()).where(col(ServedName.adapter_id) == adapter_id)
        return (await self._session.execute(statement)).scalar_one()

    async def targets(
        self, owners: Collection[str], names: Collection[str]
    ) -> Sequence[NameTarget]:
        """What these names mean to these owners."""
        found = _select_targets().where(
            col(ServedName.name).in_(names), col(ServedName.owner).in_(owners)
        )
        return [_target(row) for row in (await self._session.execute(found)).all()]

    async def adapters(self, names: Collection[str]) -> frozenset[str]:
        """Those of these adapters that exist."""
        statement = select(col(Adapter.name)).where(col(Adapter.name).in_(names))
        return frozenset((await self._session.execute(statement)).scalars())

    async def has(self, name: str, owners: Collection[str], reader: Reader | None) -> bool:
        """Whether one of the owners has it, and the reader sees the adapter."""
        found = _select_targets().where(
            col(ServedName.name) == name, col(ServedName.owner).in_(owners)
        )
        if reader is not None:
            found = found.where(reader.can_see(col(Adapter.name)))
        return (await self._session.execute(found.limit(1))).first() is not None

    async def served(
        self, *, after: str, limit: int, reader: Reader | None, base: BaseIdentity | None
    ) -> Sequence[Row[str, str]]:
        """(name, source) of the next names that a reader can use on a server of this base model.

        A tenant's own hides the platform's. The source is that of the version that it means most.
        """
        name, owner, source = col(ServedName.name), col(ServedName.owner), _source(base)
        statement = (
            select(name, source)
            .join(Adapter, col(ServedName.adapter_id) == col(Adapter.id))
            .where(name > after, source.is_not(None))
        )
        if reader is None:
            statement = statement.where(owner == PLATFORM)
        else:
            own = exists().where(_Own.owner == reader.tenant, _Own.name == name)
            platforms = and_(owner == PLATFORM, reader.can_see(col(Adapter.name)), ~own)
            statement = statement.where(or_(owner == reader.tenant, platforms))
        return (await self._session.execute(statement.order_by(name).limit(limit))).all()

    async def of_versions(self, version_ids: Collection[int]) -> dict[int, list[str]]:
        """The aliases (`name`, `name@alias`) and then the served names that mean each version."""
        means = (col(AliasHistory.version_id).in_(version_ids), is_current())
        aliases = (
            select(col(AliasHistory.version_id), col(Adapter.name), col(Alias.name))
            .join(Adapter, col(AliasHistory.adapter_id) == col(Adapter.id))
            .join(Alias, is_current())
            .where(*means)
            .order_by(col(Alias.name) != DEFAULT_ALIAS, col(Alias.name))
        )
        same_adapter = col(Alias.adapter_id) == col(ServedName.adapter_id)
        of_alias = col(Alias.name) == func.coalesce(col(ServedName.alias), DEFAULT_ALIAS)
        by_alias = (
            select(col(AliasHistory.version_id), col(ServedName.name))
            .join(Alias, is_current())
            .join(ServedName, and_(same_adapter, of_alias))
            .where(*means, col(ServedName.version).is_(None))
        )
        numbered = col(ServedName.version) == col(Version.number)
        by_number = (
            select(col(Version.id), col(ServedName.name))
            .join(ServedName, and_(col(ServedName.adapter_id) == col(Version.adapter_id), numbered))
            .where(col(Version.id).in_(version_ids))
        )
        found: dict[int, list[str]] = {}
        for version_id, adapter, alias in (await self._session.execute(aliases)).all():
            shown = AdapterReference(adapter, None if alias == DEFAULT_ALIAS else alias)
            found.setdefault(version_id, []).append(str(shown))
        for statement in (by_alias, by_number):
            for row in (await self._session.execute(statement)).all():
                found.setdefault(row[0] or 0, []).append(row[1])
        return found

    async def add(self, row: ServedName) -> None:
        """Raises IntegrityError if the owner has that name."""
        self._session.add(row)
        await self._session.flush()

    async def remove(self, owner: str, name: str) -> None:
        statement = delete(ServedName).where(col(ServedName.owner) == owner)
        await self._session.execute(statement.where(col(ServedName.name) == name))


def _select_targets() -> Any:
    columns = (ServedName.owner, ServedName.name, Adapter.name, ServedName.alias)
    return select(*map(col, columns), col(ServedName.version)).join(
        Adapter, col(ServedName.adapter_id) == col(Adapter.id)
    )


def _target(row: Any) -> NameTarget:
    owner, name, adapter, alias, version = row
    return NameTarget(owner, name, AdapterReference(adapter, alias, version))


def _source(base: BaseIdentity | None) -> Any:
    """Of the version that it means, if a server of this base model serves that."""
    fits = (col(Version.state).in_(sorted(SERVABLE)), serves_version(base))
    of_adapter = col(Version.adapter_id) == col(ServedName.adapter_id)
    by_number = (
        select(col(Version.source))
        .where(of_adapter, col(Version.number) == col(ServedName.version), *fits)
        .correlate(ServedName)
        .scalar_subquery()
    )
    by_alias = (
        select(col(Version.source))
        .join(AliasHistory, col(AliasHistory.version_id) == col(Version.id))
        .join(Alias, is_current())
        .where(
            col(Alias.adapter_id) == col(ServedName.adapter_id),
            col(Alias.name) == func.coalesce(col(ServedName.alias), DEFAULT_ALIAS),
            *fits,
        )
        .order_by(col(AliasHistory.weight).desc(), col(Version.number))
        .limit(1)
        .correlate(ServedName)
        .scalar_subquery()
    )
    return case((col(ServedName.version).is_not(None), by_number), else_=by_alias)
