"""The SQL of the terms by which adapters and versions are found. Never commits."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models.search import AdapterTerm, TermKind, VersionTerm
from registry.search.terms import Terms

_LAST = "\U0010ffff"  # after all other characters


class TermRepository:
    """Statements on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def spans(
        self, table: type[AdapterTerm | VersionTerm], starts: Sequence[str]
    ) -> dict[str, tuple[str, str]]:
        """The first and the last word with each beginning; a beginning that none has is left out.

        Mostly they are one, which is a shorter way to its rows.
        """
        if not starts:
            return {}
        value = col(table.value)
        ends = []
        for start in starts:
            begins_so = (col(table.kind) == TermKind.WORD, value >= start, value < start + _LAST)
            for end in (func.min, func.max):
                ends.append(select(end(value)).where(*begins_so).scalar_subquery())
        found = (await self._session.execute(select(*ends))).one()
        pairs = zip(starts, zip(found[::2], found[1::2], strict=True), strict=True)
        return {start: (first, last) for start, (first, last) in pairs if first is not None}

    async def set_adapter(self, name: str, terms: Terms) -> None:
        """Instead of all that it had."""
        await self._session.execute(
            delete(AdapterTerm).where(col(AdapterTerm.adapter_name) == name)
        )
        await self.add_adapter(name, terms)

    async def add_adapter(self, name: str, terms: Terms) -> None:
        rows = [{"kind": k, "value": v, "adapter_name": name} for k, v in sorted(terms)]
        await self._session.execute(insert(AdapterTerm), rows)

    async def set_version(self, version_id: int, terms: Terms) -> None:
        """Instead of all that it had."""
        await self._session.execute(
            delete(VersionTerm).where(col(VersionTerm.version_id) == version_id)
        )
        await self.add_version(version_id, terms)

    async def add_version(self, version_id: int, terms: Terms) -> None:
        rows = [{"kind": k, "value": v, "version_id": version_id} for k, v in sorted(terms)]
        await self._session.execute(insert(VersionTerm), rows)
