"""Least recently used."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from engine.policy.eviction_orders.base import EvictionKey
from engine.types import VersionId


class LruOrder:
    """What was granted or released last leaves last. Every operation is O(1)."""

    def __init__(self) -> None:
        self._uses = 0
        self._last_uses: OrderedDict[VersionId, int] = OrderedDict()

    def insert(self, version: VersionId) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses
        self._last_uses.move_to_end(version)

    def foresee(self, version: VersionId, use: int | None) -> None:
        return

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        return

    def remove(self, version: VersionId) -> None:
        self._last_uses.pop(version, None)

    def clear(self) -> None:
        self._last_uses.clear()

    def key(self, version: VersionId) -> EvictionKey:
        return (self._last_uses[version],)

    def on_reorder(self, call: Callable[[], None]) -> None:
        return

    def in_order(self) -> Iterator[VersionId]:
        return iter(self._last_uses)
