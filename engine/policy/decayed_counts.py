"""Decayed counts: how often each version was used, each use counting half after some time. Pure."""

import math
from collections.abc import Callable

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
        before, score = self._scores.get(version), now
        if before is not None and (age := now - before) <= _FORGOTTEN:
            score = math.log2(1 + 2.0**-age) + now if age >= 0 else math.log2(1 + 2.0**age) + before
        self._scores[version] = score
        return score

    def score(self, version: VersionId) -> float:
        """The lower, the less used. One that was never used has that of one used once now."""
        score = self._scores.get(version)
        return self._now if score is None else score
