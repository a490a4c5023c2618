"""Shadows of rankings: what each would hit if it alone ordered a tier. Pure."""

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto

from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.version_sample import VersionSample
from engine.types import VersionId

_HORIZON = 1000  # of the adapters that are wanted


class Use(Enum):
    """What happened to an adapter. It is wanted while requests wait for it or hold it."""

    WANTED_RESIDENT = auto()  # the cache has it
    WANTED = auto()  # the cache has to load it
    ENTERED = auto()  # the cache has loaded it, and it is wanted
    ENDED = auto()  # no longer wanted


_WANTED, _ENTERED, _ENDED = Use.WANTED, Use.ENTERED, Use.ENDED

Scores = tuple[float, float]
"""By the counts of `CountPair`."""
SeenUse = tuple[Use, VersionId, Scores]
"""The scores are those of that time, and matter where it is no longer wanted."""


class RankingShadow(ABC):
    """What would be resident under one ranking, and how often that would be what is wanted next.

    What is wanted stays under every ranking, as in the cache, and counts once however many requests
    want it at a time. So only the rest is ranked. A miss takes its place when the cache loads it.
    """

    def __init__(self) -> None:
        self.hit_ratio = 0.0
        self._wanted: set[VersionId] = set()  # and resident
        self._ranked: OrderedDict[VersionId, EvictionKey] = OrderedDict()

    def replay(self, uses: Sequence[SeenUse], places: int) -> None:
        """`places`: of the adapters that this follows."""
        wanted, ranked, ratio = self._wanted, self._ranked, self.hit_ratio
        for use, version, scores in uses:
            if use is _ENDED:
                if version in wanted:
                    wanted.remove(version)
                    self._keep(version, scores)
                    if len(wanted) >= places:
                        self._trim(0)
                continue
            if use is not _ENTERED:
                if ranked.pop(version, None) is not None:
                    ratio += (1 - ratio) / _HORIZON
                    wanted.add(version)
                    continue
                ratio -= ratio / _HORIZON
            if use is not _WANTED:
                wanted.add(version)
                if ranked and len(ranked) + len(wanted) > places:
                    self._trim(max(places - len(wanted), 0))
        self.hit_ratio = ratio

    @abstractmethod
    def _keep(self, version: VersionId, scores: Scores) -> None:
        """It stays resident, by its rank, until others need its place."""

    @abstractmethod
    def _trim(self, places: int) -> None:
        """The lowest leave until no more than that many are ranked. Some are."""

    @abstractmethod
    def score(self, last_use: int, scores: Scores) -> float:
        """The lowest leaves first. Uses are numbered."""

    def keep_only(self, sample: VersionSample) -> None:
        """The others are no longer followed."""
        for version in [v for v in self._wanted if not sample.includes(v)]:
            self._wanted.remove(version)
        for version in [v for v in self._ranked if not sample.includes(v)]:
            del self._ranked[version]

    def clear(self) -> None:
        self._wanted.clear()
        self._ranked.clear()


class RecencyShadow(RankingShadow):
    """The earliest use leaves first, or the latest: of adapters that are used in turn, some then
    stay for the next round.
    """

    def __init__(self, *, latest_first: bool) -> None:
        super().__init__()
        self._latest_first = latest_first

    def _keep(self, version: VersionId, scores: Scores) -> None:
        self._ranked[version] = ()  # by its place in the order

    def _trim(self, places: int) -> None:
        while len(self._ranked) > places:
            self._ranked.popitem(last=self._latest_first)

    def score(self, last_use: int, scores: Scores) -> float:
        return -last_use if self._latest_first else last_use


class CountShadow(RankingShadow):
    """The smallest count leaves first.

    A use only raises a count. So the heap has at most one entry for each adapter, with a count of
    some time ago, and one that comes to its top too early goes back with its present one.
    """

    def __init__(self, which: int) -> None:
        """`which`: of the scores."""
        super().__init__()
        self._which = which
        self._uses = 0
        self._in_heap: set[VersionId] = set()
        self._heap: list[tuple[EvictionKey, VersionId]] = []

    def _keep(self, version: VersionId, scores: Scores) -> None:
        self._uses += 1
        key = self._ranked[version] = (scores[self._which], self._uses)
        if version not in self._in_heap:
            self._in_heap.add(version)
            heapq.heappush(self._heap, (key, version))

    def _trim(self, places: int) -> None:
        heap, ranked = self._heap, self._ranked
        while len(ranked) > places:
            key, version = heap[0]
            present = ranked.get(version)
            if present is not None and present != key:
                heapq.heapreplace(heap, (present, version))
                continue
            heapq.heappop(heap)
            self._in_heap.remove(version)
            ranked.pop(version, None)

    def score(self, last_use: int, scores: Scores) -> float:
        return scores[self._which]

    def clear(self) -> None:
        super().clear()
        self._in_heap.clear()
        self._heap.clear()
