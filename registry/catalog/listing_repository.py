"""SQL of lists: adapters by name, versions by registration or number. Never commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer
from sqlmodel import col

from registry.catalog.further_numbers import further_numbers
from registry.catalog.repository import AnyRow
from registry.catalog.types import PublishedVersion
from registry.models import Adapter, KnownBase, Version, row_id
from registry.models.search import AdapterTerm, VersionTerm
from registry.search.filters import AdapterFilter, Spans, VersionFilter
from registry.search.paging import Search
from registry.search.repository import TermRepository

_Parent: Any = aliased(Version, name="parent")
_ParentAdapter: Any = aliased(Adapter, name="parent_adapter")
_PEFT_CONFIG: Any = Version.peft_config


class ListingRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def adapters(
        self, filters: AdapterFilter, *, after: str, limit: int
    ) -> Sequence[Adapter]:
        """The next adapters by name."""
        spans = await self._spans(AdapterTerm, filters)
        if spans is None:
            return []
        search = Search(select(Adapter), col(Adapter.name), filters.conditions(spans), after)
        return [row[0] for row in await search.page(self._session, limit)]

    async def versions(
        self, filters: VersionFilter, *, after: int, limit: int
    ) -> Sequence[PublishedVersion]:
        """The next versions by row id."""
        spans = await self._spans(VersionTerm, filters)
        if spans is None:
            return []
        search = Search(_select_published(), col(Version.id), filters.conditions(spans), after)
        return await self._to_published(await search.page(self._session, limit))

    async def versions_of(
        self, adapter_id: int, filters: VersionFilter, *, after: int, limit: int
    ) -> Sequence[PublishedVersion]:
        """The next versions of one adapter by number: few enough to test each of them."""
        spans = await self._spans(VersionTerm, filters)
        if spans is None:
            return []
        key: Any = Version.id
        tests = [condition.test(key) for condition in filters.conditions(spans)]
        of_adapter = _select_published().where(col(Version.adapter_id) == adapter_id, *tests)
        ordered = of_adapter.where(col(Version.number) > after).order_by(col(Version.number))
        return await self._to_published((await self._session.execute(ordered.limit(limit))).all())

    async def _to_published(self, rows: Sequence[AnyRow]) -> list[PublishedVersion]:
        further = await further_numbers(self._session, (row_id(row[0]) for row in rows))
        return [
            PublishedVersion(
                name,
                version,
                f"{parent}:{number}" if parent else None,
                base,
                further.get(row_id(version), ()),
            )
            for version, name, parent, number, base in rows
        ]

    async def _spans(
        self, table: type[AdapterTerm | VersionTerm], filters: AdapterFilter | VersionFilter
    ) -> Spans | None:
        """None if nothing can match: a prefix that no word has, or a text without words."""
        starts = filters.starts()
        if filters.text is not None and not starts:
            return None
        spans = await TermRepository(self._session).spans(table, starts)
        return spans if len(spans) == len(starts) else None


def _select_published() -> Select[*tuple[Any, ...]]:
    """A version, its adapter's name, its parent's name and number, its base model's name."""
    return (
        select(Version, col(Adapter.name), _ParentAdapter.name, _Parent.number, col(KnownBase.name))
        .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
        .outerjoin(KnownBase, col(Version.base_id) == col(KnownBase.id))
        .outerjoin(_Parent, col(Version.parent_id) == _Parent.id)
        .outerjoin(_ParentAdapter, _Parent.adapter_id == _ParentAdapter.id)
        .options(defer(_PEFT_CONFIG))  # large, and not part of lists
    )
