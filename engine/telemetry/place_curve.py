"""Curve of places: what LRU would have hit of the last lookups with other numbers of places."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.telemetry.shadows import STACK, Window


@dataclass(frozen=True, slots=True)
class PlaceRatio:
    """The hit ratio with so many places in all."""

    places: int
    lru: float


def place_curve(window: Window) -> Sequence[PlaceRatio]:
    """From one place to so many that more would hit nothing more, and the live number among them.

    Exact, as the shadows know each lookup's distance; there has to be a lookup.
    """
    distances = sorted(each.distance for each in window.lookups if each.distance is not None)
    enough = distances[-1] if distances else 1
    sizes = {size for size in _sizes() if size < enough} | {enough, window.places}
    count = len(window.lookups)
    return [PlaceRatio(size, bisect_right(distances, size) / count) for size in sorted(sizes)]


def _sizes() -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, …"""
    size = 1
    while size <= STACK:
        yield size
        if size > 1:
            yield size * 3 // 2
        size *= 2
