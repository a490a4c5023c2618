"""Overview of adapters: the table of the console, sorted by any column, any part of it at once.

A row has the adapter, where its aliases point, and what its default version is. Every sort follows
an index (`registry.models.adapter_order`), or sorts the few adapters that a filter has left.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from registry.auth.caller import current_caller
from registry.catalog.alias_repository import is_current
from registry.catalog.overview_filter import OverviewFilter
from registry.catalog.overview_order import (
    OF_CACHE,
    AdapterSort,
    ColumnOrder,
    FactsOfCache,
    KeptOrders,
    in_memory,
    know_nothing,
    order_by_facts,
)
from registry.database.engine import Database
from registry.database.text_set import is_none_of, is_one_of
from registry.models import Adapter, Alias, AliasHistory, Version, row_id
from registry.references import DEFAULT_ALIAS

FEW = 5000  # adapters that are read to be sorted; of more, a page is found soon

_PEFT_CONFIG: Any = Version.peft_config
_INSPECTION: Any = Version.inspection


@dataclass(slots=True)
class OverviewRow:
    """An adapter, its aliases' main versions and weights, its default version or its newest one."""

    adapter: Adapter
    aliases: dict[str, int] = field(default_factory=dict)
    weights: dict[str, dict[int, int]] = field(default_factory=dict)
    versions: int = 0
    shown: Version | None = None


class OverviewRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def total(self, filters: Sequence[ColumnElement[bool]]) -> int:
        counted = select(func.count()).select_from(Adapter).where(*filters)
        return int((await self._session.execute(counted)).scalar_one())

    async def rows(
        self, order: ColumnOrder, *, is_few: bool, offset: int, limit: int
    ) -> list[OverviewRow]:
        """Rows from `offset`. `is_few`: they are sorted here, so that no plan of SQL can go wrong:
        an index of the order could be followed past all that the filters do not match.
        """
        if is_few:
            found = await self._session.execute(order.unsorted())
            return await self._read(order.sort_rows(found.all())[offset : offset + limit])
        page = await self._keys(order.with_value().offset(offset).limit(limit))
        if order.has_absent and len(page) < limit:
            before = offset + len(page)
            if not page and offset:
                counted = await self._session.execute(order.count_with_value())
                before = int(counted.scalar_one())
            absent = order.without_value().offset(max(0, offset - before))
            page += await self._keys(absent.limit(limit - len(page)))
        return await self._read(page)

    async def rows_after(
        self,
        first: Sequence[str],
        filters: Sequence[ColumnElement[bool]],
        *,
        offset: int,
        limit: int,
    ) -> list[OverviewRow]:
        """Rows from `offset`: those of `first` in its order, then all others by name."""
        name: Any = col(Adapter.name)
        met = select(name, col(Adapter.id)).where(*filters, is_one_of(name, first))
        ids = {row[0]: row[1] for row in await self._session.execute(met)}
        leading = [ids[each] for each in first if each in ids]
        page = leading[offset : offset + limit]
        if len(page) < limit:
            others = select(col(Adapter.id)).where(*filters, is_none_of(name, first)).order_by(name)
            skipped = max(0, offset - len(leading))
            page += await self._keys(others.offset(skipped).limit(limit - len(page)))
        return await self._read(page)

    async def _keys(self, chosen: Select[Any]) -> list[int]:
        return list((await self._session.execute(chosen)).scalars())

    async def _read(self, ids: Sequence[int]) -> list[OverviewRow]:
        """In their order."""
        read = await self._session.execute(select(Adapter).where(col(Adapter.id).in_(ids)))
        adapters = {row_id(adapter): adapter for adapter in read.scalars()}
        rows = {key: OverviewRow(adapters[key]) for key in ids if key in adapters}
        if rows:
            await self._add_versions(rows)
        return list(rows.values())

    async def _add_versions(self, rows: dict[int, OverviewRow]) -> None:
        """Three queries for a whole page, however many rows it has."""
        adapter_id: Any = col(Version.adapter_id)
        counts = (
            select(adapter_id, func.count(), func.max(col(Version.number)))
            .where(adapter_id.in_(rows))
            .group_by(adapter_id)
        )
        newest: dict[int, int] = {}
        for key, count, number in (await self._session.execute(counts)).all():
            rows[key].versions = count
            newest[key] = number
        await self._add_aliases(rows)
        named = ((key, row.aliases.get(DEFAULT_ALIAS)) for key, row in rows.items())
        default = {key: number for key, number in named if number is not None}
        wanted = defaultdict(list)
        for key, number in (newest | default).items():
            wanted[number].append(key)
        if not wanted:
            return
        is_shown = or_(
            *(and_(col(Version.number) == n, adapter_id.in_(keys)) for n, keys in wanted.items())
        )
        shown = select(Version).where(is_shown).options(defer(_PEFT_CONFIG), defer(_INSPECTION))
        for version in (await self._session.execute(shown)).scalars():
            rows[version.adapter_id].shown = version

    async def _add_aliases(self, rows: dict[int, OverviewRow]) -> None:
        state: Any = AliasHistory
        is_main = state.version_id == col(Alias.version_id)
        share = (col(Version.number), state.weight, is_main)
        shares = (
            select(col(Alias.adapter_id), col(Alias.name), *share)
            .join(state, is_current())
            .join(Version, state.version_id == col(Version.id))
            .where(col(Alias.adapter_id).in_(rows))
            .order_by(col(Alias.name), col(Version.number))
        )
        for key, name, number, weight, main in (await self._session.execute(shares)).all():
            rows[key].weights.setdefault(name, {})[number] = weight
            if main:
                rows[key].aliases[name] = number


@dataclass(frozen=True, slots=True)
class OverviewPart:
    """Rows, the number of all, and the token of their order if only the cache knows it."""

    rows: list[OverviewRow]
    total: int
    as_of: str | None = None


class OverviewCatalog:
    """Read-only; each call is one short session. `facts`: the cache's, if there is one."""

    def __init__(self, database: Database, few: int = FEW) -> None:
        self._database = database
        self._few = few
        self._orders = KeptOrders()
        self.facts: FactsOfCache = know_nothing

    async def page(
        self,
        filters: OverviewFilter,
        sort: AdapterSort,
        *,
        descending: bool,
        offset: int,
        limit: int,
        as_of: str | None = None,
    ) -> OverviewPart:
        """Rows from `offset`. `as_of`: the token of the order that other rows were read in."""
        conditions = filters.conditions()
        caller = current_caller().name
        first = self._orders.find(as_of, sort, descending=descending, caller=caller)
        by_cache = sort in OF_CACHE
        facts = await self.facts() if filters.memory or (by_cache and first is None) else {}
        if filters.memory is not None:
            conditions.append(is_one_of(col(Adapter.name), in_memory(facts, filters.memory)))
        async with self._database.read_session() as session:
            repository = OverviewRepository(session)
            total = await repository.total(conditions)
            if not by_cache:
                rows = await repository.rows(
                    ColumnOrder(conditions, sort, descending),
                    is_few=bool(conditions) and total <= self._few,
                    offset=offset,
                    limit=limit,
                )
                return OverviewPart(rows, total)
            if first is None or as_of is None:
                first = order_by_facts(facts, sort, descending=descending)
                as_of = self._orders.keep(first, sort, descending=descending, caller=caller)
            rows = await repository.rows_after(first, conditions, offset=offset, limit=limit)
            return OverviewPart(rows, total, as_of)
