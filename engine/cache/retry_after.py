"""How long a request that is turned away should stay away: from how fast the line moved lately."""

import math
from collections import deque
from collections.abc import Callable

_REMEMBERED_TURNS = 256
_REMEMBERED_SECONDS = 60.0


class Backlog:
    """Remembers when those who had to wait got their turn."""

    def __init__(self, clock: Callable[[], float], *, longest_seconds: float) -> None:
        self._clock = clock
        self._longest_seconds = longest_seconds
        self._turns: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED_TURNS)

    def had_its_turn(self, load_seconds: float) -> None:
        """One who waited has a slot now; its load from disk took that long, if it had to be."""
        self._turns.append((self._clock(), load_seconds))

    def retry_after_seconds(self, waiting: int) -> int:
        """When a line of that length should have passed, and a load too; at least one second.

        Without a turn lately nothing is known, and the longest wait is the honest answer.
        """
        now = self._clock()
        recent = [turn for turn in self._turns if now - turn[0] <= _REMEMBERED_SECONDS]
        if not recent:
            return math.ceil(self._longest_seconds)
        seconds_per_turn = (now - recent[0][0]) / len(recent)
        longest_load = max(load_seconds for _, load_seconds in recent)
        seconds = max(waiting * seconds_per_turn, longest_load)
        return max(1, math.ceil(min(seconds, self._longest_seconds)))
