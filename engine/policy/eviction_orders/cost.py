"""Cost-aware: the cheapest to load again leaves first, for its bytes and its age."""

from engine.policy.eviction_orders.base import KeyedOrder
from engine.policy.version_map import VersionMap
from engine.types import VersionId

MIB = 2**20


class CostOrder(KeyedOrder):
    """GreedyDual-Size, after Cao and Irani (1997): a use sets the worth of an adapter to the worth
    of the last one that left, plus what losing it costs: its load time, `per_byte` that it occupies
    where bytes are what is short, and not places.

    Where all are alike it is LRU. An unknown cost counts as the mean of the known.
    """

    def __init__(self, *, per_byte: bool = False) -> None:
        super().__init__()
        self._per_byte = per_byte
        self._uses = 0
        self._floor = 0.0
        self._costs = VersionMap[float](self.__contains__)
        self._sum = self._known = 0.0

    def insert(self, version: VersionId) -> None:
        self._rank(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._rank(version)

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        if load_seconds > 0 and (size_bytes > 0 or not self._per_byte):
            cost = load_seconds * MIB / size_bytes if self._per_byte else load_seconds
            self._costs.put(version, cost)
            self._sum += cost
            self._known += 1
            if version in self:
                self._rank(version)

    def _rank(self, version: VersionId) -> None:
        self._uses += 1
        cost = self._costs.get(version)
        if cost is None:
            cost = self._sum / self._known if self._known else 1.0
        self.put(version, (self._floor + cost, self._uses))

    def remove(self, version: VersionId) -> None:
        if version in self:
            self._floor = max(self._floor, self.key(version)[0])
        super().remove(version)
