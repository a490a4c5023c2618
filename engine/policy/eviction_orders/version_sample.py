"""Version sample: the adapters that shadows of a large tier follow, chosen by their ids. Pure."""

from engine.types import VersionId

LEAST_PLACES = 32
"""That a sample has: a tier of less than twice as many is followed whole."""

_ONE = 2**32
_MULTIPLIER = 2654435769  # of the golden ratio: ids that follow each other fall far apart


class VersionSample:
    """One adapter in so many, and always the same ones: whether one is among them depends on its id
    alone. A smaller sample is part of a larger one.

    What such a sample hits with as small a part of the places is near to what all hit with all.
    """

    def __init__(self) -> None:
        self._one_in = 1
        self._below = _ONE

    def includes(self, version: VersionId) -> bool:
        return version * _MULTIPLIER % _ONE < self._below

    def part_of(self, places: int) -> int:
        return max(places // self._one_in, 1)

    def fit_to(self, places: int) -> bool:
        """Take a part for which `LEAST_PLACES` or more remain, or half as many if a tier shrinks.
        Whether some are no longer followed.
        """
        before = self._one_in
        while places >= 2 * LEAST_PLACES * self._one_in:
            self._one_in *= 2
        while self._one_in > 1 and 2 * places < LEAST_PLACES * self._one_in:
            self._one_in //= 2
        self._below = _ONE // self._one_in
        return self._one_in > before
