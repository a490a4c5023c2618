"""Filter of the overview: which adapters are rows of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlmodel import col

from registry.auth.visibility import Reader
from registry.bases.scope import is_named
from registry.catalog.overview_order import InMemory
from registry.models import Adapter, KnownBase, Version
from registry.models.search import AdapterTerm, TermKind, VersionTerm
from registry.search.repository import LAST, words


@dataclass(frozen=True, slots=True)
class OverviewFilter:
    """Conditions, all required. `text`: each word is a part of the name, or begins a word of the
    adapter's or a version's description, owner or tags. `names`: one of these. `state`: of any
    version. `tags`: of the adapter or of a version. `memory`: in memory, or pinned there."""

    text: str | None = None
    tags: Sequence[str] = ()
    owner: str | None = None
    base: str | None = None
    state: str | None = None
    tenant: str | None = None
    names: Sequence[str] = ()
    memory: InMemory | None = None
    reader: Reader | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        name: Any = col(Adapter.name)
        found = [] if self.reader is None else [self.reader.can_see(name)]
        found += [_has_word(word) for word in (self.text or "").split()]
        found += [_has_term(TermKind.TAG, tag, tag) for tag in self.tags]
        if self.owner is not None:
            found.append(col(Adapter.owner) == self.owner)
        if self.tenant is not None:
            found.append(name.between(f"{self.tenant}~", f"{self.tenant}~~"))
        if self.names:
            found.append(name.in_(self.names))
        if self.state is not None:
            found.append(_has_version(col(Version.state) == self.state))
        if self.base is not None:
            ids = select(col(KnownBase.id)).where(is_named(self.base))
            found.append(_has_version(col(Version.base_id).in_(ids)))
        return found


def _has_word(word: str) -> ColumnElement[bool]:
    """Part of the name, or the beginning of a word elsewhere."""
    name: Any = col(Adapter.name)
    in_name: ColumnElement[bool] = name.contains(word.casefold(), autoescape=True)
    starts = words(word)
    if len(starts) != 1:
        return in_name
    return or_(in_name, _has_term(TermKind.WORD, starts[0], starts[0] + LAST))


def _has_term(kind: TermKind, first: str, last: str) -> ColumnElement[bool]:
    """A term of the adapter or of one of its versions, found by the index of terms."""

    def met(table: Any) -> ColumnElement[bool]:
        return and_(table.kind == kind, table.value.between(first, last))

    of_adapter = select(col(AdapterTerm.adapter_name)).where(met(AdapterTerm))
    of_version = (
        select(col(Version.adapter_id))
        .join(VersionTerm, col(VersionTerm.version_id) == col(Version.id))
        .where(met(VersionTerm))
    )
    return or_(col(Adapter.name).in_(of_adapter), col(Adapter.id).in_(of_version))


def _has_version(met: ColumnElement[bool]) -> ColumnElement[bool]:
    return col(Adapter.id).in_(select(col(Version.adapter_id)).where(met))
