"""Shadows of rankings: what each would hit if it alone ordered a tier. Pure."""

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto

from engine.policy.decayed_counts import DecayedCounts
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.version_sample import VersionSample
from engine.types import VersionId

_HORIZON = 1000  # of the adapters that are wanted


class Use(Enum):
    """What happened to an adapter. It is wanted while requests wait for it or hold it."""

    WANTED_RESIDENT = auto()  # the cache has it
    WANTED = auto()  # the cache has to load it
    ENTERED = auto()  # the cache has loaded it, and it is wanted
    GRANTED = auto()
    ENDED = auto()  # no longer wanted


_WANTED, _ENTERED, _GRANTED, _ENDED = Use.WANTED, Use.ENTERED, Use.GRANTED, Use.ENDED


class RankingShadow(ABC):
    """What would be resident under one ranking, and how often that would be what is wanted next.

    What is wanted stays under every ranking, as in the cache, and counts once however many requests
    want it at a time. So only the rest is ranked. A miss takes its place when the cache loads it.
    """

    def __init__(self, on_grant: Callable[[VersionId, int], object]) -> None:
        """`on_grant`: called with each that is granted, and the places of all."""
        self.hit_ratio = 0.0
        self._on_grant = on_grant
        self._wanted: set[VersionId] = set()  # and resident
        self._ranked: OrderedDict[VersionId, EvictionKey] = OrderedDict()

    def replay(
        self, uses: Sequence[tuple[Use, VersionId]], places: int, places_of_all: int
    ) -> None:
        """`places`: of the adapters that this follows. All that are granted are among `uses`."""
        wanted, ranked, ratio = self._wanted, self._ranked, self.hit_ratio
        on_grant = self._on_grant
        for use, version in uses:
            if use is _GRANTED:
                on_grant(version, places_of_all)
                continue
            if use is _ENDED:
                if version in wanted:
                    wanted.remove(version)
                    self._keep(version)
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
    def _keep(self, version: VersionId) -> None:
        """It stays resident, by its rank, until others need its place."""

    @abstractmethod
    def _trim(self, places: int) -> None:
        """The lowest leave until no more than that many are ranked. Some are."""

    @abstractmethod
    def score(self, version: VersionId, last_use: int) -> float:
        """The lowest leaves first. Uses are numbered."""

    def keep_only(self, sample: VersionSample) -> None:
        """The others are no longer followed."""
        for version in [v for v in self._wanted if v not in sample]:
            self._wanted.remove(version)
        for version in [v for v in self._ranked if v not in sample]:
            del self._ranked[version]

    def clear(self) -> None:
        self._wanted.clear()
        self._ranked.clear()


class RecencyShadow(RankingShadow):
    """The earliest use leaves first, or the latest: of adapters that are used in turn, some then
    stay for the next round.
    """

    def __init__(self, *, latest_first: bool) -> None:
        super().__init__(lambda version, places: None)
        self._latest_first = latest_first

    def _keep(self, version: VersionId) -> None:
        self._ranked[version] = ()  # by its place in the order

    def _trim(self, places: int) -> None:
        while len(self._ranked) > places:
            self._ranked.popitem(last=self._latest_first)

    def score(self, version: VersionId, last_use: int) -> float:
        return -last_use if self._latest_first else last_use


class CountShadow(RankingShadow):
    """The smallest count leaves first.

    A use only raises a count. So the heap has at most one entry for each adapter, with a count of
    some time ago, and one that comes to its top too early goes back with its present one.
    """

    def __init__(self, counts: DecayedCounts) -> None:
        super().__init__(counts.use)
        self._counts = counts
        self._uses = 0
        self._in_heap: set[VersionId] = set()
        self._heap: list[tuple[EvictionKey, VersionId]] = []

    def _keep(self, version: VersionId) -> None:
        self._uses += 1
        key = self._ranked[version] = (self._counts.score(version), self._uses)
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

    def score(self, version: VersionId, last_use: int) -> float:
        return self._counts.score(version)

    def clear(self) -> None:
        super().clear()
        self._in_heap.clear()
        self._heap.clear()
