"""Look-ahead: the farthest next use leaves first, as far as one is known; else LRU."""

from engine.policy.eviction_orders.base import KeyedOrder
from engine.types import VersionId


class LookAheadOrder(KeyedOrder):
    """Requests that wait, for a slot or within their tenant's limits, are the known uses."""

    def __init__(self) -> None:
        super().__init__()
        self._uses = 0
        self._last_uses: dict[VersionId, int] = {}
        self._foreseen: dict[VersionId, int] = {}

    def insert(self, version: VersionId) -> None:
        self._use(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._use(version)

    def foresee(self, version: VersionId, use: int | None) -> None:
        if use is None:
            self._foreseen.pop(version, None)
        else:
            self._foreseen[version] = use
        if version in self._keys:
            self._rank(version)

    def _use(self, version: VersionId) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses
        self._rank(version)

    def _rank(self, version: VersionId) -> None:
        """Those without a known use first, then the farthest."""
        last_use, use = self._last_uses[version], self._foreseen.get(version)
        self._keys[version] = (0, last_use) if use is None else (1, -use, last_use)
        self._changed.add(version)

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        self._last_uses.pop(version, None)

    def clear(self) -> None:
        super().clear()
        self._last_uses.clear()
