"""SQL of export and import: many rows at a time. Never commits."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.grants import get_tenant
from registry.catalog.further_numbers import add_further_numbers, further_numbers
from registry.catalog.repository import WITHOUT_FILES
from registry.events.log import RecordedEvent, recorded_events
from registry.models import (
    Adapter,
    AliasHistory,
    Event,
    KnownBase,
    ServedName,
    Version,
    VersionState,
    row_id,
)
from registry.models.search import AdapterTerm, VersionTerm
from registry.references import tenant_of
from registry.search.repository import adapter_terms, version_terms
from registry.transfer.format import BaseManifest
from registry.transfer.serializers import Row

Item = TypeVar("Item")

_PAGE = 500
_ADAPTERS = 100  # with all their versions in memory
_IMPORTS = 0x1D0A7E93C45BF286  # an arbitrary advisory lock key


@dataclass(slots=True)
class LocalAdapter:
    """The registry's own adapter with a name that is to be imported."""

    id: int
    versions: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Row id and digest by number."""
    states: dict[int, VersionState] = field(default_factory=dict)
    numbers_of: dict[str, set[int]] = field(default_factory=dict)
    """By content digest, of those that have files."""
    numbers: dict[int, int] = field(default_factory=dict)
    """By row id."""
    further: dict[int, int] = field(default_factory=dict)
    """The version number that each further number means."""
    aliases: dict[str, dict[int, int]] = field(default_factory=dict)
    """Current weights by version number; empty for a deleted alias."""


class TransferRepository:
    """Statements on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def check_tenants(self, names: Iterable[str], *, lock: bool) -> None:
        """Check the tenants of adapters to be created. Raises UnknownTenant."""
        for tenant in sorted({tenant for name in names if (tenant := tenant_of(name))}):
            await get_tenant(self._session, tenant, lock=lock)

    # ---- reading -------------------------------------------------------------------------

    async def adapters(self, names: Sequence[str] | None) -> AsyncIterator[Sequence[Adapter]]:
        """All adapters, or the named ones, by name and in pages."""
        after = ""
        while True:
            statement = select(Adapter).where(col(Adapter.name) > after)
            if names is not None:
                statement = statement.where(col(Adapter.name).in_(names))
            ordered = statement.order_by(col(Adapter.name)).limit(_ADAPTERS)
            found = (await self._session.execute(ordered)).scalars().all()
            if not found:
                return
            yield found
            after = found[-1].name

    async def versions(self, adapter_ids: Sequence[int]) -> Sequence[Version]:
        """Versions by adapter and number, except pending ones."""
        statement = (
            select(Version)
            .where(
                col(Version.adapter_id).in_(adapter_ids), col(Version.state) != VersionState.PENDING
            )
            .order_by(col(Version.adapter_id), col(Version.number))
        )
        return (await self._session.execute(statement)).scalars().all()

    async def references(self, version_ids: Iterable[int]) -> dict[int, str]:
        """`name:3` by row id."""
        found: dict[int, str] = {}
        for ids in _batches(version_ids):
            statement = (
                select(col(Version.id), col(Adapter.name), col(Version.number))
                .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
                .where(col(Version.id).in_(ids))
            )
            for id_, name, number in (await self._session.execute(statement)).all():
                found[id_ or 0] = f"{name}:{number}"
        return found

    async def bases(self) -> dict[int, BaseManifest]:
        """All base models, by row id."""
        rows = (await self._session.execute(select(KnownBase))).scalars()
        return {row_id(row): BaseManifest(name=row.name, digest=row.digest) for row in rows}

    async def history(self, adapter_ids: Sequence[int]) -> Sequence[AliasHistory]:
        """By adapter, alias and revision."""
        statement = (
            select(AliasHistory)
            .where(col(AliasHistory.adapter_id).in_(adapter_ids))
            .order_by(
                col(AliasHistory.adapter_id), col(AliasHistory.alias), col(AliasHistory.revision)
            )
        )
        return (await self._session.execute(statement)).scalars().all()

    async def names(self, adapter_ids: Sequence[int]) -> Sequence[ServedName]:
        """Served names, by adapter and name."""
        of_adapters = select(ServedName).where(col(ServedName.adapter_id).in_(adapter_ids))
        ordered = of_adapters.order_by(col(ServedName.adapter_id), col(ServedName.name))
        return (await self._session.execute(ordered)).scalars().all()

    async def events(self, after: int, names: Sequence[str] | None) -> list[RecordedEvent]:
        """The next events of adapters."""
        statement = (
            select(Event, col(Adapter.name))
            .join(Adapter, col(Event.adapter_id) == col(Adapter.id))
            .where(col(Event.id) > after)
        )
        if names is not None:
            statement = statement.where(col(Adapter.name).in_(names))
        ordered = statement.order_by(col(Event.id)).limit(_PAGE)
        return recorded_events((await self._session.execute(ordered)).all())

    async def local(self, names: Iterable[str], *, lock: bool = False) -> dict[str, LocalAdapter]:
        """Existing adapters by name. `lock`: they stay unchanged until the transaction ends."""
        found: dict[str, LocalAdapter] = {}
        for batch in _batches(sorted(names)):
            statement = select(Adapter).where(col(Adapter.name).in_(batch))
            ordered = statement.order_by(col(Adapter.name))
            if lock:
                ordered = ordered.with_for_update(key_share=True)
            adapters = {row_id(a): a for a in (await self._session.execute(ordered)).scalars()}
            here = {id_: LocalAdapter(id_) for id_ in adapters}
            found |= {adapter.name: here[id_] for id_, adapter in adapters.items()}
            for version in await self._all_versions(list(adapters)):
                local = here[version.adapter_id]
                local.states[version.number] = VersionState(version.state)
                local.versions[version.number] = (row_id(version), version.digest)
                local.numbers[row_id(version)] = version.number
                if version.content_digest and version.state not in WITHOUT_FILES:
                    same = local.numbers_of.setdefault(version.content_digest, set())
                    same.add(version.number)
            await self._add_further_numbers(here.values())
            for row in await self.history(list(adapters)):
                local = here[row.adapter_id]
                state = local.aliases.setdefault(row.alias, {})
                if row.valid_to is None:
                    state[local.numbers[row.version_id]] = row.weight
        return found

    async def _add_further_numbers(self, adapters: Iterable[LocalAdapter]) -> None:
        numbers = {id_: (local, n) for local in adapters for id_, n in local.numbers.items()}
        for version_id, further in (await self.further_numbers(numbers)).items():
            local, number = numbers[version_id]
            local.further.update(dict.fromkeys(further, number))

    async def further_numbers(self, version_ids: Iterable[int]) -> dict[int, tuple[int, ...]]:
        """By row id of the version."""
        return await further_numbers(self._session, version_ids)

    async def _all_versions(self, adapter_ids: Sequence[int]) -> Sequence[Version]:
        statement = select(Version).where(col(Version.adapter_id).in_(adapter_ids))
        return (await self._session.execute(statement)).scalars().all()

    async def known_events(self, uids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for batch in _batches(uids):
            statement = select(col(Event.uid)).where(col(Event.uid).in_(batch))
            found.update((await self._session.execute(statement)).scalars())
        return found

    # ---- writing -------------------------------------------------------------------------

    async def add_adapters(self, adapters: Sequence[Adapter]) -> None:
        self._session.add_all(adapters)
        await self._session.flush()
        rows = [
            {"kind": kind, "value": value, "adapter_name": adapter.name}
            for adapter in adapters
            for kind, value in sorted(adapter_terms(adapter))
        ]
        if rows:
            await self._session.execute(insert(AdapterTerm), rows)

    async def add_versions(self, named: Sequence[tuple[str, Version]]) -> None:
        """Each with its adapter's name."""
        self._session.add_all(version for _, version in named)
        await self._session.flush()
        rows = [
            {"kind": kind, "value": value, "version_id": row_id(version)}
            for name, version in named
            for kind, value in sorted(version_terms(name, version))
        ]
        if rows:
            await self._session.execute(insert(VersionTerm), rows)

    async def add_further_numbers(self, rows: Sequence[dict[str, int]]) -> None:
        await add_further_numbers(self._session, rows)

    async def set_parent(self, version_id: int, parent_id: int) -> None:
        statement = update(Version).where(col(Version.id) == version_id)
        await self._session.execute(statement.values(parent_id=parent_id))

    async def lock_imports(self) -> None:
        """Serialize imports: each locks many adapters, so concurrent ones could deadlock."""
        if self._session.get_bind().dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(:key)")
            await self._session.execute(lock, {"key": _IMPORTS})

    async def add_events(self, rows: Sequence[Row]) -> None:
        if rows:
            await self._session.execute(insert(Event), rows)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _PAGE)):
        yield batch
