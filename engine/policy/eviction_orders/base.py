"""EvictionOrder: the port of an eviction policy. Pure: no clock, no I/O, no randomness.

A policy is one new module in this folder. It decides only the order; leases, pins, capacities,
drains and promises to waiters are the same under every policy, and `CachePolicy` enforces them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from engine.policy.ordered_index import EvictionKey, OrderedIndex
from engine.types import VersionId

__all__ = ["EvictionKey", "EvictionOrder", "IndexedOrder", "KeyedOrder"]


class EvictionOrder(Protocol):
    """The adapters of a tier, the next victim first.

    `tests/unit/policy/test_eviction_orders.py` holds every policy to this contract.
    """

    def insert(self, version: VersionId) -> None:
        """It enters the tier. It is not in the order yet."""

    def touch(self, version: VersionId, *, granted: bool) -> None:
        """A request begins (`granted`) or ends to hold it: twice for each request.

        A policy by recency counts both, one by frequency only the grant.
        """

    def foresee(self, version: VersionId, use: int | None) -> None:
        """Its next use is known: the lower the number, the sooner; None: no more.

        Called in the order or not. A policy may ignore it.
        """

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        """What keeping it takes, and what losing it costs. Called in the order or not.

        A policy may ignore it.
        """

    def remove(self, version: VersionId) -> None:
        """It left the tier, or never got there. Ignored if it is not in the order."""

    def clear(self) -> None:
        """The engine is a new one: nothing is resident."""

    def key(self, version: VersionId) -> EvictionKey:
        """Its rank: the lowest is the next victim; none is another, nor the beginning of one.

        Of adapters that are in the order; `in_order` is sorted by it. Only calls about this version
        change it, unless what was passed to `on_reorder` has been called. With it, the cache keeps
        those that may leave in this order without scanning the others.
        """

    def on_reorder(self, call: Callable[[], None]) -> None:
        """`call` this whenever keys of others change: seldom, as all of them are read again."""

    def in_order(self) -> Iterator[VersionId]:
        """Every adapter once, the next victim first.

        Reading changes nothing. The caller may stop early, so a policy should yield the first one
        before it has sorted the rest; and it may not change the order while it iterates.
        """


class IndexedOrder(ABC):
    """An order by keys that are found when they are read. Changes, which only name those whose keys
    are others now, cost O(1); the next `in_order` costs O(log n) for each of them.
    """

    def __init__(self) -> None:
        self._index = OrderedIndex()
        self._changed: set[VersionId] = set()  # the index has not seen their keys

    @abstractmethod
    def key(self, version: VersionId) -> EvictionKey:
        """See `EvictionOrder`."""

    def foresee(self, version: VersionId, use: int | None) -> None:
        return

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        return

    def remove(self, version: VersionId) -> None:
        self._changed.discard(version)
        self._index.discard(version)

    def clear(self) -> None:
        self._changed.clear()
        self._index.clear()

    def on_reorder(self, call: Callable[[], None]) -> None:
        return

    def in_order(self) -> Iterator[VersionId]:
        for version in self._changed:
            self._index.put(version, self.key(version))
        self._changed.clear()
        return iter(self._index)


class KeyedOrder(IndexedOrder):
    """An order by keys that its methods `put`; most policies are one."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[VersionId, EvictionKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, version: object) -> bool:
        return version in self._keys

    def key(self, version: VersionId) -> EvictionKey:
        return self._keys[version]

    def put(self, version: VersionId, key: EvictionKey) -> None:
        self._keys[version] = key
        self._changed.add(version)

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        self._keys.pop(version, None)

    def clear(self) -> None:
        super().clear()
        self._keys.clear()
