"""Curve: what was measured at some counts, and on the lines between them. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

Points = Sequence[tuple[float, float]]
"""Counts and what was measured of so many, fewer first."""


def on_lines(points: Points, count: float, *, beyond: float) -> float:
    """Before the first point as at it; `beyond`: for each after the last."""
    after = bisect_right(points, count, key=itemgetter(0))
    if not after:
        return points[0][1]
    last, value = points[after - 1]
    if after < len(points):
        following, later = points[after]
        beyond = (later - value) / (following - last)
    return value + (count - last) * beyond
