"""Order of the overview: the columns that SQL sorts by, and the orders that only a cache knows."""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Select, Text, and_, cast, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from registry.models import Adapter, Alias, Version
from registry.references import DEFAULT_ALIAS

_Default: Any = aliased(Version, name="default_version")
_DefaultAlias: Any = aliased(Alias, name="default_alias")
_KEPT_ORDERS = 64
_MOST_KNOWN = 10_000  # adapters of one order, of which several are kept


class AdapterSort(StrEnum):
    """Columns to sort by; `version`, `state`, `rank` and `size` are the default version's.

    `aliases`: by their names; `tags`: by the adapter's, or where it has none, by its default
    version's. `memory` (slots, then host memory), `asked` (seconds since the last request) and
    `hits` (share of lookups that found it in memory) are the cache's: adapters that it knows come
    first, all others behind them by name.
    """

    NAME = "name"
    CREATED = "created"
    OWNER = "owner"
    VERSION = "version"
    STATE = "state"
    RANK = "rank"
    SIZE = "size"
    VERSIONS = "versions"
    ALIASES = "aliases"
    TAGS = "tags"
    DESCRIPTION = "description"
    MEMORY = "memory"
    ASKED = "asked"
    HITS = "hits"


InMemory = Literal["in", "pinned"]
OF_CACHE = frozenset({AdapterSort.MEMORY, AdapterSort.ASKED, AdapterSort.HITS})


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """What a cache knows of an adapter now; None: it doesn't.

    `tier`: 0 for a slot, 1 for host memory. `asked`: seconds since its last request. `hits`: share
    of its last lookups that found it in memory.
    """

    tier: int | None = None
    pinned: bool = False
    asked: float | None = None
    hits: float | None = None


FactsOfCache = Callable[[], Awaitable[Mapping[str, CacheFacts]]]
"""By adapter, of those that the caller sees. Raises ScopeMissing, EngineAway."""


async def know_nothing() -> Mapping[str, CacheFacts]:
    """Of a server without a cache."""
    return {}


def in_memory(facts: Mapping[str, CacheFacts], wanted: InMemory) -> list[str]:
    """Names of the adapters in memory, or of those pinned there."""
    found = (name for name, each in facts.items() if each.tier is not None)
    return sorted(name for name in found if wanted == "in" or facts[name].pinned)


def order_by_facts(
    facts: Mapping[str, CacheFacts], sort: AdapterSort, *, descending: bool
) -> list[str]:
    """Names of the adapters with a value; those with the same are in the order of their names."""
    column = {AdapterSort.MEMORY: "tier", AdapterSort.ASKED: "asked", AdapterSort.HITS: "hits"}
    values = {name: getattr(each, column[sort]) for name, each in facts.items()}
    names = sorted(name for name, value in values.items() if value is not None)
    names.sort(key=lambda name: values[name], reverse=descending)
    return names[:_MOST_KNOWN]


class KeptOrders:
    """Orders by token, so that the pages of a table are of one order though the cache moves on.

    Of many, those go that were not used for longest, of the caller who has most of them.
    """

    def __init__(self) -> None:
        self._orders: OrderedDict[str, tuple[str, Sequence[str]]] = OrderedDict()

    def find(
        self, token: str | None, sort: AdapterSort, *, descending: bool, caller: str
    ) -> Sequence[str] | None:
        """None: it was for another column or caller, or is kept no longer."""
        if token is None or not token.startswith(_kind(sort, descending=descending)):
            return None
        kept = self._orders.get(token)
        if kept is None or kept[0] != caller:
            return None
        self._orders.move_to_end(token)
        return kept[1]

    def keep(
        self, order: Sequence[str], sort: AdapterSort, *, descending: bool, caller: str
    ) -> str:
        token = f"{_kind(sort, descending=descending)}{secrets.token_urlsafe(9)}"
        self._orders[token] = (caller, order)
        if len(self._orders) > _KEPT_ORDERS:
            self._drop_one()
        return token

    def _drop_one(self) -> None:
        kept = Counter(caller for caller, _ in self._orders.values())
        [(most, _)] = kept.most_common(1)
        del self._orders[next(token for token, (who, _) in self._orders.items() if who == most)]


def _kind(sort: AdapterSort, *, descending: bool) -> str:
    return f"{'-' if descending else ''}{sort}."


def _of_adapter(table: Any) -> Any:
    return col(table.adapter_id) == col(Adapter.id)


def _number_of_versions() -> Any:
    counted = select(func.count()).select_from(Version).where(_of_adapter(Version))
    return counted.correlate(Adapter).scalar_subquery()


def _alias_names() -> Any:
    """Joined, in their order."""
    names = select(col(Alias.name)).where(_of_adapter(Alias)).order_by(col(Alias.name))
    joined = names.correlate(Adapter).subquery()
    return select(func.aggregate_strings(joined.c.name, " ")).scalar_subquery()


def _tags(column: Any) -> Any:
    """As the database has their JSON, without brackets; NULL if there are none."""
    return func.nullif(func.trim(cast(column, Text), "[]"), "")


_KEYS: dict[AdapterSort, Any] = {
    AdapterSort.NAME: col(Adapter.name),
    AdapterSort.CREATED: col(Adapter.created_at),
    AdapterSort.OWNER: col(Adapter.owner),
    AdapterSort.DESCRIPTION: col(Adapter.description),
    AdapterSort.VERSION: _Default.number,
    AdapterSort.STATE: _Default.state,
    AdapterSort.RANK: _Default.rank,
    AdapterSort.SIZE: _Default.size_bytes,
    AdapterSort.TAGS: func.coalesce(_tags(Adapter.tags), _tags(_Default.tags)),
    AdapterSort.VERSIONS: _number_of_versions(),
    AdapterSort.ALIASES: _alias_names(),
}
_OF_DEFAULT = {
    AdapterSort.VERSION,
    AdapterSort.STATE,
    AdapterSort.RANK,
    AdapterSort.SIZE,
    AdapterSort.TAGS,
}


def order(chosen: Select[Any], sort: AdapterSort, *, descending: bool) -> Select[Any]:
    """A selection of adapters in the order of a column; those without a value come last."""
    key = _KEYS[sort]
    if sort in _OF_DEFAULT:
        chosen = _join_default(chosen)
    by = [key.desc() if descending else key.asc()]
    if sort is not AdapterSort.NAME:
        by = [key.is_(None), *by, col(Adapter.name)]
    return chosen.order_by(*by)


def _join_default(chosen: Select[Any]) -> Select[Any]:
    is_default = and_(_of_adapter(_DefaultAlias), _DefaultAlias.name == DEFAULT_ALIAS)
    aliased_to = chosen.outerjoin(_DefaultAlias, is_default)
    return aliased_to.outerjoin(_Default, _Default.id == _DefaultAlias.version_id)
