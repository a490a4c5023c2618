"""Adaptive: recency, frequency or turns, whichever would have hit most lately; and known uses."""

from collections.abc import Callable

from engine.policy.decayed_counts import DecayedCounts
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.ranking_shadows import (
    CountShadow,
    RankingShadow,
    RecencyShadow,
    Use,
)
from engine.types import VersionId

HALF_LIVES = (4, 16)
"""Of the counts, in times of as many requests as there are places. LRU stands beside them."""
_CHECK_EVERY = 64  # grants
_MOST_UNSEEN = 512
_MARGIN = 0.01  # by which another has to be better: keys are not changed for nothing
_RESIDENT, _WANTED, _ENTERED = Use.WANTED_RESIDENT, Use.WANTED, Use.ENTERED
_GRANTED, _ENDED = Use.GRANTED, Use.ENDED


class AdaptiveOrder(LookAheadOrder):
    """Known uses come first, as with look-ahead. The rest is in the order of the ranking whose
    shadow has hit most often of the last thousand times that an adapter was wanted; LRU until
    another is clearly better. Beside LRU are two counts of uses, and the most recently used first.

    The shadows have as many places as the tier has had lately. They see the uses when they are
    compared, some dozens together; if counts decide, each grant at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._grants = 0
        self._places = 1
        counts = [DecayedCounts(each, self.__contains__) for each in HALF_LIVES]
        by_recency = [RecencyShadow(latest_first=each) for each in (False, True)]
        self._shadows: list[RankingShadow] = [*by_recency, *map(CountShadow, counts)]
        self._unseen: list[tuple[Use, VersionId]] = []  # by the shadows
        self._holders: dict[VersionId, int] = {}  # requests that hold it
        self._best = self._shadows[0]
        self._reordered: Callable[[], None] = lambda: None

    def insert(self, version: VersionId) -> None:
        self._use(version)
        if len(self._keys) > self._places:
            self._show()
            self._places = len(self._keys)
        if version in self._foreseen or version in self._holders:
            self._unseen.append((_ENTERED, version))

    def foresee(self, version: VersionId, use: int | None) -> None:
        if version not in self._holders:
            if use is None:
                if version in self._foreseen:
                    self._unseen.append((_ENDED, version))
            elif version not in self._foreseen:
                self._unseen.append((_RESIDENT if version in self._keys else _WANTED, version))
                if len(self._unseen) >= _MOST_UNSEEN:
                    self._show()
        super().foresee(version, use)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        if granted:
            self._grant(version)
        else:
            self._end(version)
        self._use(version)
        if granted and self._grants % _CHECK_EVERY == 0:
            self._show()
            self._choose()

    def _grant(self, version: VersionId) -> None:
        self._grants += 1
        if version in self._holders:
            self._holders[version] += 1
        else:
            self._holders[version] = 1
            if version not in self._foreseen:
                self._unseen.append((_RESIDENT, version))
        self._unseen.append((_GRANTED, version))
        if isinstance(self._best, CountShadow):
            self._show()

    def _end(self, version: VersionId) -> None:
        """Of one request. Without a grant, there is none that holds it."""
        holders = self._holders.pop(version, 0)
        if holders > 1:
            self._holders[version] = holders - 1
        elif holders and version not in self._foreseen:
            self._unseen.append((_ENDED, version))

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        while version in self._holders:
            self._end(version)

    def _show(self) -> None:
        uses, places = self._unseen, self._places
        changes = [each for each in uses if each[0] is not _GRANTED]
        for shadow in self._shadows:
            shadow.replay(uses if isinstance(shadow, CountShadow) else changes, places)
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
        self._holders.clear()
        self._show()
        for shadow in self._shadows:
            shadow.clear()
