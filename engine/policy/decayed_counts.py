"""Decayed counts: how often each version was used, each use counting half after some time. Pure."""

from collections.abc import Callable
from math import log2

from engine.policy.version_map import VersionMap
from engine.types import VersionId

_FORGOTTEN = 60.0  # half-lives after which a use adds nothing that a float could show


class DecayedCounts:
    """Keeps the logarithm of each count as of the beginning: so time changes no order of them, and
    only a use of a version changes its own.

    A use counts half after `half_life` times as many uses as there are places. It remembers those
    that `is_needed` says, and some thousand more.
    """

    def __init__(self, half_life: int, is_needed: Callable[[VersionId], bool]) -> None:
        self._half_life = half_life
        self._now = 0.0  # in half-lives
        self._scores = VersionMap[float](is_needed)

    def use(self, version: VersionId, places: int) -> float:
        """Returns its score from now on."""
        self._now = now = self._now + 1 / (self._half_life * (places or 1))
        score = _raise_score(self._scores.get(version), now)
        self._scores.put(version, score)
        return score

    def score(self, version: VersionId) -> float:
        """The lower, the less used. One that was never used has that of one used once now."""
        score = self._scores.get(version)
        return self._now if score is None else score


class CountPair:
    """Two such counts of the same uses, for half the work."""

    def __init__(self, half_lives: tuple[int, int], is_needed: Callable[[VersionId], bool]) -> None:
        self._half_lives = half_lives
        self._now = (0.0, 0.0)
        self._scores = VersionMap[tuple[float, float]](is_needed)
        self._find = self._scores.get

    def use(self, version: VersionId, places: int) -> tuple[float, float]:
        """Returns its scores from now on."""
        (fast, slow), (fast_now, slow_now) = self._half_lives, self._now
        places = places or 1
        fast_now += 1 / (fast * places)
        slow_now += 1 / (slow * places)
        self._now = scores = fast_now, slow_now
        if (before := self._find(version)) is not None:
            scores = _raise_score(before[0], fast_now), _raise_score(before[1], slow_now)
        self._scores.put(version, scores)
        return scores

    def scores(self, version: VersionId) -> tuple[float, float]:
        """See `DecayedCounts.score`."""
        return self._find(version) or self._now


def _raise_score(before: float | None, now: float) -> float:
    """The score of one that is used now, and had this one."""
    if before is None or (age := now - before) > _FORGOTTEN:
        return now
    return log2(1 + 2.0**-age) + now if age >= 0 else log2(1 + 2.0**age) + before
