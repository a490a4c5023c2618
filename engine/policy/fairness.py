"""When a hot adapter has to stop admitting requests, so that a waiter has its turn in time."""

from collections import deque

_REMEMBERED = 64
_ALMOST_ALL = 0.9
_LEAST_SHARE = 0.25
_LOOKS = 20


class Turns:
    """A hot adapter leaves its slot when its running requests have ended, so it has to begin
    earlier by as long as nine in ten of them take.
    """

    def __init__(self, max_slot_wait_seconds: float) -> None:
        self._longest_seconds = max_slot_wait_seconds
        self._lease_seconds: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def look_seconds(self) -> float:
        """How often to see whether somebody has waited too long."""
        return self._longest_seconds / _LOOKS

    def ended_after(self, seconds: float) -> None:
        """A request held its adapter for that long."""
        self._lease_seconds.append(seconds)

    def patience_seconds(self) -> float:
        """How long an adapter waits before a hot one is made to leave for it.

        At least a quarter of the longest wait: requests may take longer than that in any case.
        """
        ordered = sorted(self._lease_seconds)
        usual = ordered[int(_ALMOST_ALL * (len(ordered) - 1))] if ordered else 0.0
        early = self._longest_seconds - usual - 2 * self.look_seconds
        return max(early, self._longest_seconds * _LEAST_SHARE)
