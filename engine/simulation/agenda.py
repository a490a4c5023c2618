"""Agenda: the virtual clock of a simulation, and what happens at which time."""

import heapq
import itertools
from collections.abc import Callable


class Agenda:
    """The queue of future events, ordered by time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (seconds, next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def run(self) -> None:
        """Process events until there are none."""
        while self._due:
            self.now, _, what = heapq.heappop(self._due)
            what()
