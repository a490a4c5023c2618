"""Look-ahead: the farthest next use leaves first, as far as one is known; else LRU."""

from engine.policy.eviction_orders.base import EvictionKey, IndexedOrder
from engine.types import VersionId


class LookAheadOrder(IndexedOrder):
    """Requests that wait, for a slot or within their tenant's limits, are the known uses."""

    def __init__(self) -> None:
        super().__init__()
        self._uses = 0
        self._last_uses: dict[VersionId, int] = {}  # of those in the order
        self._foreseen: dict[VersionId, int] = {}

    def __len__(self) -> int:
        return len(self._last_uses)

    def __contains__(self, version: object) -> bool:
        return version in self._last_uses

    def key(self, version: VersionId) -> EvictionKey:
        """Those without a known use first, then the farthest."""
        last_use, use = self._last_uses[version], self._foreseen.get(version)
        return (0, last_use) if use is None else (1, -use, last_use)

    def insert(self, version: VersionId) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses
        self._changed.add(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses
        self._changed.add(version)

    def foresee(self, version: VersionId, use: int | None) -> None:
        if use is None:
            self._foreseen.pop(version, None)
        else:
            self._foreseen[version] = use
        if version in self._last_uses:
            self._changed.add(version)

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        self._last_uses.pop(version, None)

    def clear(self) -> None:
        super().clear()
        self._last_uses.clear()
