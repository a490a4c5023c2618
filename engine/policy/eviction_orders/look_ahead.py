"""Look-ahead: the farthest next use leaves first, as far as one is known; else LRU."""

from engine.policy.eviction_orders.base import EvictionKey, KeyedOrder
from engine.types import VersionId

_UNKNOWN: EvictionKey = (0, 0)


def _next_use_key(use: int | None) -> EvictionKey:
    """Beginning of a key: those without a known use first, then the farthest."""
    return _UNKNOWN if use is None else (1, -use)


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
        if version in self:
            self._rank(version)

    def _use(self, version: VersionId) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses
        self._rank(version)

    def _rank(self, version: VersionId) -> None:
        known = _next_use_key(self._foreseen.get(version))
        self.put(version, (*known, *self._rank_unforeseen(version)))

    def _rank_unforeseen(self, version: VersionId) -> EvictionKey:
        """The rest of the key, which decides where no use is known."""
        return (self._last_uses[version],)

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        self._last_uses.pop(version, None)

    def clear(self) -> None:
        super().clear()
        self._last_uses.clear()
