"""Adaptive: recency, frequency or turns, whichever would have hit most lately; and known uses."""

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence

from engine.policy.decayed_counts import DecayedCounts
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
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

    @abstractmethod
    def replay(self, uses: Sequence[int], places: int) -> None:
        """The version of each grant, and less than 0: that of each request that ended."""

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
        self._resident: OrderedDict[int, None] = OrderedDict()

    def replay(self, uses: Sequence[int], places: int) -> None:
        resident, ratio = self._resident, self.hit_ratio
        for use in uses:
            if use in resident:
                ratio += (1 - ratio) / _HORIZON
                resident.move_to_end(use)
            elif use > 0:
                ratio -= ratio / _HORIZON
                while len(resident) >= places:
                    resident.popitem(last=self._latest_first)
                resident[use] = None
            elif -use in resident:  # an end is a use, as LRU has it
                resident.move_to_end(-use)
        self.hit_ratio = ratio

    def score(self, version: VersionId, last_use: int) -> float:
        return -last_use if self._latest_first else last_use

    def clear(self) -> None:
        self._resident.clear()


class _CountShadow(_Shadow):
    """The smallest count leaves first.

    A use only raises a count. So the heap has one entry for each resident, with a count of some
    time ago, and one that comes to its top too early goes back with its present one.
    """

    def __init__(self, counts: DecayedCounts) -> None:
        super().__init__()
        self._counts = counts
        self._uses = 0
        self._resident: dict[VersionId, EvictionKey] = {}
        self._heap: list[tuple[EvictionKey, VersionId]] = []

    def replay(self, uses: Sequence[int], places: int) -> None:
        resident, ratio, count = self._resident, self.hit_ratio, self._counts.use
        for use in uses:
            if use < 0:
                continue
            version = VersionId(use)
            self._uses += 1
            key = count(version, places), self._uses
            if version in resident:
                ratio += (1 - ratio) / _HORIZON
            else:
                ratio -= ratio / _HORIZON
                while len(resident) >= places:
                    self._remove_first()
                heapq.heappush(self._heap, (key, version))
            resident[version] = key
        self.hit_ratio = ratio

    def _remove_first(self) -> None:
        heap, resident = self._heap, self._resident
        while True:
            key, version = heap[0]
            present = resident[version]
            if present == key:
                break
            heapq.heapreplace(heap, (present, version))
        heapq.heappop(heap)
        del resident[version]

    def score(self, version: VersionId, last_use: int) -> float:
        return self._counts.score(version)

    def clear(self) -> None:
        self._resident.clear()
        self._heap.clear()


class AdaptiveOrder(LookAheadOrder):
    """Known uses come first, as with look-ahead. The rest is in the order of the ranking whose
    shadow has hit most often over the last thousand grants; LRU until another is clearly better.
    Beside LRU are two counts of uses, and the most recently used first.

    The shadows have as many places as the tier has had lately. They see the uses when they are
    compared, some dozens together; if counts decide, each grant at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._grants = 0
        self._places = 1
        counts = [DecayedCounts(each, self.__contains__) for each in HALF_LIVES]
        by_recency = [_RecencyShadow(latest_first=each) for each in (False, True)]
        self._shadows: list[_Shadow] = [*by_recency, *map(_CountShadow, counts)]
        self._unseen: list[int] = []  # by the shadows
        self._best = self._shadows[0]
        self._reordered: Callable[[], None] = lambda: None

    def insert(self, version: VersionId) -> None:
        super().insert(version)
        if len(self._keys) > self._places:
            self._show()
            self._places = len(self._keys)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._unseen.append(version if granted else -version)
        if granted:
            self._grants += 1
            if isinstance(self._best, _CountShadow):
                self._show()
        self._use(version)
        if granted and self._grants % _CHECK_EVERY == 0:
            self._show()
            self._choose()

    def _show(self) -> None:
        for shadow in self._shadows:
            shadow.replay(self._unseen, self._places)
        self._unseen.clear()

    def _rank(self, version: VersionId) -> None:
        last_use, use = self._last_uses[version], self._foreseen.get(version)
        if use is None:
            self._keys[version] = (0, self._best.score(version, last_use), last_use)
        else:
            self._keys[version] = (1, -use, last_use)
        self._changed.add(version)

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
        self._show()
        for shadow in self._shadows:
            shadow.clear()
