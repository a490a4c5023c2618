"""SQL of adapters and versions. Never commits: the service owns the transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Row, bindparam, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.bases.scope import serves_version
from registry.catalog.alias_repository import is_current
from registry.catalog.further_numbers import ids_of_number
from registry.database.row_insert import insert_row
from registry.errors import UnknownAdapter
from registry.inspection.base_identity import BaseIdentity
from registry.inspection.invocation import INVOCATION_FIELD
from registry.models import (
    SERVABLE,
    Adapter,
    Alias,
    AliasHistory,
    Event,
    FurtherNumber,
    Version,
    VersionState,
)
from registry.references import check_name

AnyRow = Row[*tuple[Any, ...]]

Table = TypeVar("Table", Adapter, Version, Event)

_ALL_FILES = 0x5F8E1C0B64D2A793  # an arbitrary advisory lock key

WITHOUT_FILES = (VersionState.PURGED, VersionState.REJECTED, VersionState.PENDING)
"""States of versions whose files are not in the store, or need not be."""

TRAINING = ("chat_template", "sampling_defaults")
"""What a version was trained with, beside its weights."""

_PEFT_CONFIG: Any = Version.peft_config

_RESOLVED = (
    col(Version.id),
    col(Version.number),
    col(Version.digest),
    col(Version.rank),
    col(Version.size_bytes),
    col(Version.state),
    col(Version.state_reason),
    col(Version.state_changed_at),
    col(Version.base_id),
    _PEFT_CONFIG[INVOCATION_FIELD].label("invocation_tokens"),
)

# built once: SQLAlchemy takes longer to build and look up a statement than SQLite to execute it
_ADAPTER = select(Adapter).where(col(Adapter.name) == bindparam("name"))
_LOCKED_ADAPTER = _ADAPTER.with_for_update(key_share=True)


class RegistryRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession, base: BaseIdentity | None = None) -> None:
        """`base`: the base model that the server serves."""
        self._session = session
        self._base = base

    async def add(self, row: Table) -> Table:
        """Insert the row, so that its id is known."""
        self._session.add(row)
        await self._session.flush()
        return row

    async def insert(self, row: Adapter | Version) -> None:
        """The same for a row that nothing changes in this session."""
        await insert_row(self._session, row)

    # ---- adapters ------------------------------------------------------------------------

    async def adapter(self, name: str, *, lock: bool = False) -> Adapter | None:
        """`lock`: no other transaction changes it until this one ends.

        Only needed on PostgreSQL: on SQLite there is one writer at a time. FOR NO KEY UPDATE still
        lets others read and insert rows that refer to the adapter.
        """
        statement = _LOCKED_ADAPTER if lock else _ADAPTER
        return (await self._session.execute(statement, {"name": name})).scalar_one_or_none()

    async def adapter_name(self, adapter_id: int) -> str:
        statement = select(col(Adapter.name)).where(col(Adapter.id) == adapter_id)
        return (await self._session.execute(statement)).scalar_one()

    # ---- versions ------------------------------------------------------------------------

    async def version(self, adapter_id: int, number: int) -> Version | None:
        """The version that has this number, or the one that it is a further number of."""
        statement = select(Version).where(col(Version.id).in_(ids_of_number(adapter_id, number)))
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def last_number_and_digest(self, adapter_id: int, digest: str) -> tuple[int, int | None]:
        """The highest number in use, and the version number with this digest, in one query."""
        numbers = select(col(Version.number)).where(col(Version.adapter_id) == adapter_id)
        last = numbers.order_by(col(Version.number).desc()).limit(1).scalar_subquery()
        same = numbers.where(col(Version.digest) == digest).scalar_subquery()
        further = select(func.max(col(FurtherNumber.number))).where(
            col(FurtherNumber.adapter_id) == adapter_id
        )
        found = (await self._session.execute(select(last, same, further.scalar_subquery()))).one()
        return max(found[0] or 0, found[2] or 0), found[1]

    async def number_with_content(self, adapter_id: int, content_digest: str | None) -> int | None:
        """The first version with this content that has files; one that is served if possible."""
        if content_digest is None:
            return None
        statement = (
            select(col(Version.number))
            .where(
                col(Version.adapter_id) == adapter_id,
                col(Version.content_digest) == content_digest,
                col(Version.state).not_in(WITHOUT_FILES),
            )
            .order_by(col(Version.state).not_in(SERVABLE), col(Version.number))
        )
        return (await self._session.execute(statement.limit(1))).scalar_one_or_none()

    async def versions_without_content_digest(
        self, adapter: str, rank: int, alpha: float
    ) -> Sequence[AnyRow]:
        """Row id and digest of those that were registered before there were such digests."""
        statement = (
            select(col(Version.id), col(Version.digest))
            .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
            .where(
                col(Adapter.name) == adapter,
                col(Version.content_digest).is_(None),
                col(Version.state).not_in(WITHOUT_FILES),
                col(Version.rank) == rank,
                col(Version.alpha) == alpha,
            )
        )
        return (await self._session.execute(statement)).all()

    async def set_content_digests(self, digests: Mapping[int, str]) -> None:
        """By row id."""
        for version_id, digest in digests.items():
            statement = update(Version).where(col(Version.id) == version_id)
            await self._session.execute(statement.values(content_digest=digest))

    async def has_version(self, states: Collection[VersionState]) -> bool:
        """Whether any version is in one of these states."""
        found = select(col(Version.id)).where(col(Version.state).in_(sorted(states))).limit(1)
        return (await self._session.execute(found)).first() is not None

    async def version_with_id(self, version_id: int) -> Row[Version, str] | None:
        """The version and its adapter's name."""
        statement = (
            select(Version, col(Adapter.name))
            .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
            .where(col(Version.id) == version_id)
        )
        return (await self._session.execute(statement)).one_or_none()

    async def reference_of(self, version_id: int | None) -> str | None:
        """`name:3` of the version with this row id."""
        found = None if version_id is None else await self.version_with_id(version_id)
        return None if found is None else f"{found[1]}:{found[0].number}"

    async def descends(self, version_id: int, ancestor_id: int) -> bool:
        """Whether it is that version or descends from it."""
        line = select(col(Version.id), col(Version.parent_id)).where(col(Version.id) == version_id)
        ancestors = line.cte("ancestors", recursive=True)
        parents = select(col(Version.id), col(Version.parent_id)).join(
            ancestors, ancestors.c.parent_id == col(Version.id)
        )
        ancestors = ancestors.union(parents)
        found = select(ancestors.c.id).where(ancestors.c.id == ancestor_id)
        return (await self._session.execute(found)).first() is not None

    async def resolved_version(self, adapter_id: int, number: int) -> Sequence[AnyRow]:
        """Columns of a version for resolution, with the weight 1."""
        statement = select(*_RESOLVED, self._is_served(), literal(1)).where(
            col(Version.id).in_(ids_of_number(adapter_id, number))
        )
        return (await self._session.execute(statement)).all()

    async def training(self, version_ids: Sequence[int]) -> Sequence[AnyRow]:
        """Number of each version, and what it was trained with."""
        columns = (getattr(Version, name) for name in TRAINING)
        statement = select(col(Version.number), *columns).where(col(Version.id).in_(version_ids))
        return (await self._session.execute(statement)).all()

    async def resolved_alias(self, adapter_id: int, alias: str) -> Sequence[AnyRow]:
        """The same for each version of an alias, with its weight."""
        statement = (
            select(*_RESOLVED, self._is_served(), col(AliasHistory.weight))
            .join(AliasHistory, col(AliasHistory.version_id) == col(Version.id))
            .join(Alias, is_current())
            .where(col(Alias.adapter_id) == adapter_id, col(Alias.name) == alias)
        )
        return (await self._session.execute(statement)).all()

    def _is_served(self) -> Any:
        return serves_version(self._base).label("is_served")

    # ---- files ---------------------------------------------------------------------------

    async def lock_files(self, digest: str) -> None:
        """No other transaction publishes or purges these files until this one ends.

        Only needed on PostgreSQL: on SQLite there is one writer at a time.
        """
        if self._session.get_bind().dialect.name == "postgresql":
            key = int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)
            locks = "SELECT pg_advisory_xact_lock_shared(:all), pg_advisory_xact_lock(:key)"
            await self._session.execute(text(locks), {"all": _ALL_FILES, "key": key})

    async def lock_all_files(self) -> None:
        """The same for all files: a lock for each of many could exceed PostgreSQL's lock table.

        Lock all adapters that the transaction changes before.
        """
        if self._session.get_bind().dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(:all)")
            await self._session.execute(lock, {"all": _ALL_FILES})

    async def uses_of_files(self, digest: str, tenant: str | None = None) -> int:
        """Number of versions that need the files, of all adapters or of a tenant's."""
        statement = select(func.count(col(Version.id))).where(
            col(Version.digest) == digest, col(Version.state) != VersionState.PURGED
        )
        if tenant is not None:
            own = col(Adapter.name).startswith(f"{tenant}~")
            statement = statement.join(Adapter, col(Version.adapter_id) == col(Adapter.id))
            statement = statement.where(own)
        return (await self._session.execute(statement)).scalar_one()


async def get_adapter(repository: RegistryRepository, name: str) -> Adapter:
    """Raises InvalidReference, UnknownAdapter."""
    adapter = await repository.adapter(check_name(name))
    if adapter is None:
        raise UnknownAdapter(name)
    return adapter
