"""Adaptive: recency, frequency or turns, whichever would have hit most lately; and known uses."""

from collections.abc import Callable

from engine.policy.decayed_counts import CountPair
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.ranking_shadows import (
    CountShadow,
    RankingShadow,
    RecencyShadow,
    SeenUse,
    Use,
)
from engine.policy.eviction_orders.version_sample import VersionSample
from engine.types import VersionId

HALF_LIVES = (4, 16)
"""Of the counts, in times of as many requests as there are places. LRU stands beside them."""
_CHECK_EVERY = 64  # grants
_MOST_UNSEEN = 32  # the more at a time, the longer waits the request that comes last
_MARGIN = 0.01  # by which another has to be better: keys are not changed for nothing
_RESIDENT, _WANTED, _ENTERED = Use.WANTED_RESIDENT, Use.WANTED, Use.ENTERED
_ENDED = Use.ENDED
_NO_SCORES = (0.0, 0.0)  # where they don't matter


class AdaptiveOrder(LookAheadOrder):
    """Known uses come first, as with look-ahead. The rest is in the order of the ranking whose
    shadow has hit most often of the last thousand times that an adapter was wanted; LRU until
    another is clearly better. Beside LRU are two counts of uses, and the most recently used first.

    The shadows have as many places as the tier has had lately. In a large tier they follow a
    sample of the adapters, and have as small a part of the places; the counts follow all, as their
    ranking has to, and immediately. The shadows see a few uses at a time, with the counts of that
    time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._grants = 0
        self._places = 1
        self._counts = CountPair(HALF_LIVES, self.__contains__)
        by_recency = [RecencyShadow(latest_first=each) for each in (False, True)]
        by_counts = [CountShadow(which) for which in range(len(HALF_LIVES))]
        self._shadows: list[RankingShadow] = [*by_recency, *by_counts]
        self._sample = VersionSample()
        self._is_followed = self._sample.includes
        self._unseen: list[SeenUse] = []  # by the shadows
        self._holders: dict[VersionId, int] = {}  # requests that hold it, of the sample
        self._best: RankingShadow = by_recency[0]
        self._scores: dict[VersionId, float] | None = None  # if counts decide
        self._reordered: Callable[[], None] = lambda: None

    def key(self, version: VersionId) -> EvictionKey:
        last_use, use = self._last_uses[version], self._foreseen.get(version)
        if use is not None:
            return (1, -use, last_use)
        scores = self._scores
        score = self._best.score(last_use, _NO_SCORES) if scores is None else scores[version]
        return (0, score, last_use)

    def insert(self, version: VersionId) -> None:
        self._uses += 1
        last_uses = self._last_uses
        last_uses[version] = self._uses
        self._changed.add(version)
        if self._scores is not None:
            self._scores[version] = self._best.score(self._uses, self._counts.scores(version))
        if len(last_uses) > self._places:
            self._resize(len(last_uses))
        if version in self._holders or (version in self._foreseen and self._is_followed(version)):
            self._unseen.append((_ENTERED, version, _NO_SCORES))

    def foresee(self, version: VersionId, use: int | None) -> None:
        foreseen, is_here = self._foreseen, version in self._last_uses
        was_foreseen = version in foreseen
        if use is not None:  # as its parent does: a call takes as long
            foreseen[version] = use
        elif was_foreseen:
            del foreseen[version]
        if is_here:
            self._changed.add(version)
        begins_or_ends = was_foreseen is (use is None)
        if begins_or_ends and version not in self._holders and self._is_followed(version):
            if was_foreseen:
                self._unseen.append((_ENDED, version, self._counts.scores(version)))
            else:
                self._unseen.append((_RESIDENT if is_here else _WANTED, version, _NO_SCORES))
            if len(self._unseen) >= _MOST_UNSEEN:
                self._show()

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._uses += 1  # as its parent does: a call takes as long
        self._last_uses[version] = self._uses
        self._changed.add(version)
        if granted:
            self._grant(version)
        elif version in self._holders:
            self._end(version)

    def _grant(self, version: VersionId) -> None:
        self._grants += 1
        scores = self._counts.use(version, self._places)
        if self._scores is not None:  # kept: that of one without a count goes up with time
            self._scores[version] = self._best.score(self._uses, scores)
        if version in self._holders:
            self._holders[version] += 1
        elif self._is_followed(version):
            self._holders[version] = 1
            if version not in self._foreseen:
                self._unseen.append((_RESIDENT, version, _NO_SCORES))
                if len(self._unseen) >= _MOST_UNSEEN:
                    self._show()
        if self._grants % _CHECK_EVERY == 0:
            self._choose()

    def _end(self, version: VersionId) -> None:
        """Of one request that holds it."""
        self._holders[version] -= 1
        if not self._holders[version]:
            del self._holders[version]
            if version not in self._foreseen:
                self._unseen.append((_ENDED, version, self._counts.scores(version)))

    def remove(self, version: VersionId) -> None:
        self._changed.discard(version)  # as its parents do: calls take as long
        if version in self._index.versions:
            self._index.discard(version)
        self._last_uses.pop(version, None)
        if self._scores is not None:
            self._scores.pop(version, None)
        while version in self._holders:
            self._end(version)

    def _show(self) -> None:
        if self._unseen:
            places = self._sample.part_of(self._places)
            for shadow in self._shadows:
                shadow.replay(self._unseen, places)
            self._unseen.clear()

    def _resize(self, places: int) -> None:
        self._show()
        self._places = places
        if self._sample.fit_to(places):
            self._holders = {v: n for v, n in self._holders.items() if self._is_followed(v)}
            for shadow in self._shadows:
                shadow.keep_only(self._sample)

    def _choose(self) -> None:
        self._resize(max(len(self), self._places - 1))  # of an operator's eviction, it comes back
        best = max(self._shadows, key=lambda shadow: shadow.hit_ratio)
        if best is not self._best and best.hit_ratio > self._best.hit_ratio + _MARGIN:
            self._best = best
            last_uses, scores_of = self._last_uses, self._counts.scores
            self._scores = None
            if isinstance(best, CountShadow):
                self._scores = {v: best.score(last_uses[v], scores_of(v)) for v in last_uses}
            self._changed.update(last_uses)
            self._reordered()

    def on_reorder(self, call: Callable[[], None]) -> None:
        self._reordered = call

    def clear(self) -> None:
        super().clear()
        self._holders.clear()
        if self._scores is not None:
            self._scores.clear()
        self._show()
        for shadow in self._shadows:
            shadow.clear()
