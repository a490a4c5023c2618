"""Adaptive: recency, frequency or turns, whichever would have hit most lately; and known uses."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable

from engine.policy.decayed_counts import DecayedCounts
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.ordered_index import OrderedIndex
from engine.types import VersionId

HALF_LIVES = (4, 16)
"""Of the counts, in times of as many requests as there are places. LRU stands beside them."""
_HORIZON = 1000  # grants that count
_CHECK_EVERY = 64
_MARGIN = 0.005  # by which another has to be better: keys are not changed for nothing


class _Shadow(ABC):
    """What would be resident if one ranking alone decided, and the share of grants it would hit."""

    def __init__(self) -> None:
        self.hit_ratio = 0.0

    def count(self, *, hit: bool) -> bool:
        self.hit_ratio += (hit - self.hit_ratio) / _HORIZON
        return hit

    @abstractmethod
    def grant(self, version: VersionId, places: int) -> None: ...

    @abstractmethod
    def score(self, version: VersionId, last_use: int) -> float:
        """The lowest leaves first. Uses are numbered."""

    @abstractmethod
    def clear(self) -> None: ...


class _RecencyShadow(_Shadow):
    """The earliest use leaves first, or the latest: of adapters that are used in turn, some then
    stay for the next round.
    """

    def __init__(self, *, latest_first: bool) -> None:
        super().__init__()
        self._latest_first = latest_first
        self._resident: OrderedDict[VersionId, None] = OrderedDict()

    def grant(self, version: VersionId, places: int) -> None:
        resident = self._resident
        if not self.count(hit=version in resident):
            while len(resident) >= places:
                resident.popitem(last=self._latest_first)
            resident[version] = None
        else:
            resident.move_to_end(version)

    def end(self, version: VersionId) -> None:
        """A request ended: a use, as LRU has it."""
        if version in self._resident:
            self._resident.move_to_end(version)

    def score(self, version: VersionId, last_use: int) -> float:
        return -last_use if self._latest_first else last_use

    def clear(self) -> None:
        self._resident.clear()


class _CountShadow(_Shadow):
    """The smallest count leaves first."""

    def __init__(self, counts: DecayedCounts) -> None:
        super().__init__()
        self._counts = counts
        self._uses = 0
        self._resident = OrderedIndex()

    def grant(self, version: VersionId, places: int) -> None:
        resident = self._resident
        score = self._counts.use(version, places)
        if not self.count(hit=version in resident.versions):
            while len(resident.versions) >= places:
                victim = resident.first()
                assert victim is not None, "it is not empty"
                resident.discard(victim)
        self._uses += 1
        resident.put(version, (score, self._uses))

    def score(self, version: VersionId, last_use: int) -> float:
        return self._counts.score(version)

    def clear(self) -> None:
        self._resident.clear()


class AdaptiveOrder(LookAheadOrder):
    """Known uses come first, as with look-ahead. The rest is in the order of the ranking whose
    shadow has hit most often over the last thousand grants; LRU until another is clearly better.
    Beside LRU are two counts of uses, and the most recently used first.

    The shadows have as many places as the tier has had lately.
    """

    def __init__(self) -> None:
        super().__init__()
        self._grants = 0
        self._places = 1
        counts = [DecayedCounts(each, self.__contains__) for each in HALF_LIVES]
        self._by_recency = [_RecencyShadow(latest_first=each) for each in (False, True)]
        self._shadows: list[_Shadow] = [*self._by_recency, *map(_CountShadow, counts)]
        self._best = self._shadows[0]
        self._reordered: Callable[[], None] = lambda: None

    def insert(self, version: VersionId) -> None:
        super().insert(version)
        self._places = max(self._places, len(self))

    def touch(self, version: VersionId, *, granted: bool) -> None:
        if granted:
            for shadow in self._shadows:
                shadow.grant(version, self._places)
        else:
            for recency in self._by_recency:
                recency.end(version)
        super().touch(version, granted=granted)
        self._grants += granted
        if granted and self._grants % _CHECK_EVERY == 0:
            self._choose()

    def _rank_unforeseen(self, version: VersionId) -> EvictionKey:
        last_use = self._last_uses[version]
        return self._best.score(version, last_use), last_use

    def _choose(self) -> None:
        self._places = max(len(self), self._places - 1)  # of an operator's eviction, it comes back
        best = max(self._shadows, key=lambda shadow: shadow.hit_ratio)
        if best is not self._best and best.hit_ratio > self._best.hit_ratio + _MARGIN:
            self._best = best
            for version in list(self.in_order()):
                self._rank(version)
            self._reordered()

    def on_reorder(self, call: Callable[[], None]) -> None:
        self._reordered = call

    def clear(self) -> None:
        super().clear()
        for shadow in self._shadows:
            shadow.clear()
