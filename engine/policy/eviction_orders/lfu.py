"""Least frequently used, with ageing: a use counts half after a while."""

from engine.policy.decayed_counts import DecayedCounts
from engine.policy.eviction_orders.base import KeyedOrder
from engine.types import VersionId

HALF_LIFE = 16
"""In times of as many requests as there are adapters in the tier."""


class LfuOrder(KeyedOrder):
    """Counts go on while an adapter is away. Among equals, the one that was used first leaves."""

    def __init__(self, half_life: int = HALF_LIFE) -> None:
        super().__init__()
        self._uses = 0
        self._counts = DecayedCounts(half_life, self.__contains__)

    def insert(self, version: VersionId) -> None:
        self._rank(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        if granted:
            self._counts.use(version, len(self))
            self._rank(version)

    def _rank(self, version: VersionId) -> None:
        self._uses += 1
        self.put(version, (self._counts.score(version), self._uses))
