"""SQL of search terms, and how texts become terms. Never commits."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import Adapter, Version
from registry.models.base import table_of
from registry.models.search import MAX_TERM_LENGTH, AdapterTerm, TermKind, VersionTerm

_WORD = re.compile(r"[^\W_]+")

Terms = set[tuple[TermKind, str]]

_ADD_ADAPTER_TERM = insert(table_of(AdapterTerm))
_ADD_VERSION_TERM = insert(table_of(VersionTerm))

LAST = "\U0010ffff"  # sorts after all other characters


class TermRepository:
    """Statements on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def spans(
        self, table: type[AdapterTerm | VersionTerm], starts: Sequence[str]
    ) -> dict[str, tuple[str, str]]:
        """The first and the last word with each prefix; prefixes without a word are omitted.

        Usually both are the same word, whose rows are then found faster.
        """
        if not starts:
            return {}
        value = col(table.value)
        ends = []
        for start in starts:
            begins_so = (col(table.kind) == TermKind.WORD, value >= start, value < start + LAST)
            for end in (func.min, func.max):
                ends.append(select(end(value)).where(*begins_so).scalar_subquery())
        found = (await self._session.execute(select(*ends))).one()
        pairs = zip(starts, zip(found[::2], found[1::2], strict=True), strict=True)
        return {start: (first, last) for start, (first, last) in pairs if first is not None}

    async def set_adapter(self, name: str, terms: Terms) -> None:
        """Replace all its terms."""
        await self._session.execute(
            delete(AdapterTerm).where(col(AdapterTerm.adapter_name) == name)
        )
        await self.add_adapter(name, terms)

    async def add_adapter(self, name: str, terms: Terms) -> None:
        rows = [{"kind": k, "value": v, "adapter_name": name} for k, v in sorted(terms)]
        await self._session.execute(_ADD_ADAPTER_TERM, rows)

    async def set_version(self, version_id: int, terms: Terms) -> None:
        """Replace all its terms."""
        await self._session.execute(
            delete(VersionTerm).where(col(VersionTerm.version_id) == version_id)
        )
        await self.add_version(version_id, terms)

    async def add_version(self, version_id: int, terms: Terms) -> None:
        rows = [{"kind": k, "value": v, "version_id": version_id} for k, v in sorted(terms)]
        await self._session.execute(_ADD_VERSION_TERM, rows)


# ---- terms ----------------------------------------------------------------------------------


def words(*texts: str | None) -> list[str]:
    """Words of letters and digits in order, with case folded and Unicode normalized (NFKC)."""
    joined = unicodedata.normalize("NFKC", " ".join(filter(None, texts)))
    folded = unicodedata.normalize("NFKC", joined.casefold())
    return [word[:MAX_TERM_LENGTH] for word in _WORD.findall(folded)]


def adapter_terms(adapter: Adapter) -> Terms:
    """Search terms of an adapter."""
    texts = words(adapter.name, adapter.description, adapter.owner, *adapter.tags)
    return _of(TermKind.TAG, adapter.tags) | _of(TermKind.WORD, texts)


def version_terms(adapter_name: str, version: Version) -> Terms:
    """Search terms of a version."""
    texts = words(
        adapter_name, version.description, version.training_run, version.dataset, *version.tags
    )
    return (
        _of(TermKind.TAG, version.tags)
        | _of(TermKind.TARGET_MODULE, version.target_modules)
        | _of(TermKind.WORD, texts)
    )


def _of(kind: TermKind, values: Iterable[str]) -> Terms:
    return {(kind, value[:MAX_TERM_LENGTH]) for value in values}
