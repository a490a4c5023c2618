"""Order of the overview: the columns that SQL sorts by, and the orders that only a cache knows."""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, select

from registry.models import Adapter, AdapterOrder
from registry.models.base import table_of

_ADAPTER, _ORDER = table_of(Adapter), table_of(AdapterOrder)
_KEPT_ORDERS = 64
_MOST_KNOWN = 10_000  # adapters of one order, of which several are kept


class AdapterSort(StrEnum):
    """Columns to sort by; `version`, `state`, `rank` and `size` are the default version's.

    `aliases`: by their names; `tags`: by the adapter's, or where it has none, by its default
    version's; of texts the first 200 characters count. `memory` (slots, then host memory), `asked`
    (seconds since the last request) and `hits` (share of lookups that found it in memory) are the
    cache's: adapters that it knows come first, all others behind them by name.
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


_KEYS: dict[AdapterSort, Any] = {
    AdapterSort.NAME: _ADAPTER.c.name,
    AdapterSort.CREATED: _ORDER.c.created_at,
    AdapterSort.OWNER: _ORDER.c.owner,
    AdapterSort.DESCRIPTION: _ORDER.c.description,
    AdapterSort.VERSION: _ORDER.c.version,
    AdapterSort.STATE: _ORDER.c.state,
    AdapterSort.RANK: _ORDER.c.rank,
    AdapterSort.SIZE: _ORDER.c.size_bytes,
    AdapterSort.TAGS: _ORDER.c.tags,
    AdapterSort.VERSIONS: _ORDER.c.versions,
    AdapterSort.ALIASES: _ORDER.c.aliases,
}


@dataclass(frozen=True, slots=True)
class ColumnOrder:
    """Adapters in the order of a column that SQL sorts by; those without a value come last.

    Those with the same value are in the order of their names, and with `descending` in its reverse,
    so that one index has both directions. `filters`: which adapters.
    """

    filters: Sequence[ColumnElement[bool]]
    sort: AdapterSort
    descending: bool

    @property
    def has_absent(self) -> bool:
        return bool(self._key.nullable)

    def with_value(self) -> Select[Any]:
        """Ids, in the order of an index, which SQL follows from its beginning or end."""
        key, name = self._key, self._name
        by = (key.desc(), name.desc()) if self.descending else (key, name)
        return self._select(self._id).where(key.is_not(None)).order_by(*by)

    def without_value(self) -> Select[Any]:
        """Ids by name, in the order of the same index."""
        chosen = self._select(self._id).where(self._key.is_(None))
        return chosen.order_by(self._key, self._name)

    def count_with_value(self) -> Select[Any]:
        return self._select(func.count(self._id)).where(self._key.is_not(None))

    def unsorted(self) -> Select[Any]:
        """Id, value and name of each, for `sort_rows`."""
        return self._select(self._id, self._key, self._name)

    def sort_rows(self, rows: Iterable[Any]) -> list[int]:
        """The same order of a few: ids of the rows of `unsorted`."""
        found: dict[bool, list[Any]] = {True: [], False: []}
        for key, value, name in rows:
            found[value is None].append((key, value, name))
        found[False].sort(key=lambda row: (row[1], row[2]), reverse=self.descending)
        found[True].sort(key=lambda row: str(row[2]))
        return [row[0] for row in (*found[False], *found[True])]

    @property
    def _key(self) -> Any:
        return _KEYS[self.sort]

    @property
    def _id(self) -> Any:
        return _ADAPTER.c.id if self.sort is AdapterSort.NAME else _ORDER.c.adapter_id

    @property
    def _name(self) -> Any:
        return _ADAPTER.c.name if self.sort is AdapterSort.NAME else _ORDER.c.name

    def _select(self, *columns: Any) -> Select[Any]:
        chosen = select(*columns).where(*self.filters)
        if self.sort is AdapterSort.NAME or not self.filters:
            return chosen
        return chosen.join_from(_ORDER, _ADAPTER, _ADAPTER.c.id == _ORDER.c.adapter_id)
