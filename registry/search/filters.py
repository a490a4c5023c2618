"""Search filters for adapters and versions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, true
from sqlalchemy.orm import aliased
from sqlmodel import col

from registry.auth.visibility import Reader
from registry.bases.scope import is_named
from registry.models import Adapter, FurtherNumber, KnownBase, Version
from registry.models.search import AdapterTerm, TermKind, VersionTerm
from registry.references import parse_version
from registry.search.paging import Condition
from registry.search.repository import words

Spans = Mapping[str, tuple[str, str]]
"""By prefix: the first and the last word with that prefix."""

Term = tuple[TermKind, str, str]
"""Kind, first and last value."""


@dataclass(frozen=True, slots=True)
class AdapterFilter:
    """Conditions, all required. `text`: prefixes of words in name, description, owner, tags."""

    tags: Sequence[str] = ()
    owner: str | None = None
    text: str | None = None
    base: str | None = None
    reader: Reader | None = None

    def starts(self) -> list[str]:
        """Prefixes of the words to search for."""
        return sorted(set(words(self.text)))

    def conditions(self, spans: Spans) -> list[Condition]:
        found = [] if self.reader is None else [_visible_adapters(self.reader)]
        found += [_adapter_term((TermKind.TAG, tag, tag)) for tag in self.tags]
        if self.owner is not None:
            owner = self.owner
            column = col(Adapter.owner)
            owned = _column(col(Adapter.name), column, "", lambda found: found == owner)
            found.append(owned)
        if self.base is not None:
            found.append(_adapters_of_base(self.base))
        return found + [_adapter_term(_word_term(spans[start])) for start in self.starts()]


@dataclass(frozen=True, slots=True)
class VersionFilter:
    """Conditions, all required; of `states` one. `text`: prefixes of words in the adapter's name,
    and in the version's description, training run, dataset and tags."""

    tags: Sequence[str] = ()
    target_modules: Sequence[str] = ()
    states: Sequence[str] = ()
    base_model: str | None = None
    base: str | None = None
    rank_min: int | None = None
    rank_max: int | None = None
    text: str | None = None
    parent: str | None = None
    reader: Reader | None = None

    def starts(self) -> list[str]:
        """Of the words to look for."""
        return sorted(set(words(self.text)))

    def conditions(self, spans: Spans) -> list[Condition]:
        found = [] if self.reader is None else [_visible_versions(self.reader)]
        found += [_version_term((TermKind.TAG, tag, tag)) for tag in self.tags]
        modules = [(TermKind.TARGET_MODULE, module, module) for module in self.target_modules]
        found += map(_version_term, modules)
        if self.base_model is not None:
            found.append(_version_column(col(Version.base_model), self.base_model, ""))
        if self.base is not None:
            found.append(_versions_of_base(self.base))
        if self.parent is not None:
            found.append(_has_parent(*parse_version(self.parent), self.reader))
        if self.states:
            found.append(_in_states(self.states))
        if self.rank_min is not None or self.rank_max is not None:
            found.append(_rank_between(self.rank_min or 1, self.rank_max or 2**31 - 1))
        return found + [_version_term(_word_term(spans[start])) for start in self.starts()]


def _visible_adapters(reader: Reader) -> Condition:
    return Condition(select(reader.visible_adapters().c.name), reader.can_see)


def _visible_versions(reader: Reader) -> Condition:
    """Collected and sorted: few tenants have many versions."""
    version: Any = aliased(Version)
    adapter: Any = aliased(Adapter)
    shown = reader.visible_adapters()
    keys = select(version.id).join(shown, version.adapter_id == shown.c.id)
    named = select(1).select_from(version).join(adapter, version.adapter_id == adapter.id)

    def test(of_row: ColumnElement[Any]) -> ColumnElement[bool]:
        met = named.where(version.id == of_row, reader.can_see(adapter.name))
        return exists(met.offset(0).correlate_except(version, adapter))

    return Condition(keys, test, ordered=False)


def _versions_of_base(name: str) -> Condition:
    ids = select(col(KnownBase.id)).where(is_named(name))
    bound: Any = func.coalesce(col(Version.base_id), 0)
    keys = select(col(Version.id)).where(col(Version.base_id).in_(ids))
    return Condition(keys, lambda of_row: bound.in_(ids), ordered=False)


def _adapters_of_base(name: str) -> Condition:
    """Those with a version that is bound to it."""
    version: Any = aliased(Version)
    adapter: Any = aliased(Adapter)
    ids = select(col(KnownBase.id)).where(is_named(name))
    named = select(adapter.name).join(version, version.adapter_id == adapter.id)
    bound = named.where(version.base_id.in_(ids))

    def test(of_row: ColumnElement[Any]) -> ColumnElement[bool]:
        met = bound.where(adapter.name == of_row)
        return exists(met.offset(0).correlate_except(version, adapter))

    return Condition(bound.distinct(), test, ordered=False)


def _word_term(span: tuple[str, str]) -> Term:
    return TermKind.WORD, *span


def _adapter_term(term: Term) -> Condition:
    return _term(col(AdapterTerm.kind), col(AdapterTerm.value), col(AdapterTerm.adapter_name), term)


def _version_term(term: Term) -> Condition:
    return _term(col(VersionTerm.kind), col(VersionTerm.value), col(VersionTerm.version_id), term)


def _term(kind: Any, value: Any, key: Any, term: Term) -> Condition:
    """A condition on the columns of one of the term tables."""
    wanted, first, last = term
    same = value == first if first == last else value.between(first, last)
    met = and_(kind == wanted, same)

    def test(of_row: ColumnElement[Any]) -> ColumnElement[bool]:
        """OFFSET keeps PostgreSQL from turning it into a join, which would drive the list."""
        return exists(select(1).where(met, key == of_row).offset(0).correlate_except(key.table))

    return Condition(select(key).where(met), test, ordered=first == last)


def _column(
    key: Any, column: Any, nothing: str | int, met: Callable[[Any], Any], *, ordered: bool = True
) -> Condition:
    """A condition on the row itself. COALESCE with `nothing` keeps its index from driving."""
    test = met(func.coalesce(column, nothing))
    return Condition(select(key).where(met(column)), lambda of_row: test, ordered)


def _version_column(column: Any, value: Any, nothing: str | int) -> Condition:
    return _column(col(Version.id), column, nothing, lambda found: found == value)


def _has_parent(name: str, number: int, reader: Reader | None) -> Condition:
    """No version, if the parent is hidden from the reader."""
    parent: Any = aliased(Version)
    shown = true() if reader is None else reader.can_see(col(Adapter.name))
    further = select(col(FurtherNumber.version_id)).where(
        col(FurtherNumber.adapter_id) == col(Adapter.id), col(FurtherNumber.number) == number
    )
    has_number = or_(parent.number == number, parent.id.in_(further))
    parent_id = (
        select(parent.id)
        .join(Adapter, parent.adapter_id == col(Adapter.id))
        .where(col(Adapter.name) == name, has_number, shown)
        .correlate(None)
        .scalar_subquery()
    )
    return _version_column(col(Version.parent_id), parent_id, 0)


def _in_states(states: Sequence[str]) -> Condition:
    if len(states) == 1:
        return _version_column(col(Version.state), states[0], "")
    state = col(Version.state)
    return _column(col(Version.id), state, "", lambda found: found.in_(states), ordered=False)


def _rank_between(low: int, high: int) -> Condition:
    if low == high:
        return _version_column(col(Version.rank), low, 0)
    rank = col(Version.rank)
    return _column(col(Version.id), rank, 0, lambda found: found.between(low, high), ordered=False)
