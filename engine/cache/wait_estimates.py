"""Wait estimates: patience before a hot adapter is drained; `Retry-After` for refused requests."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable

from engine.types import VersionId

_LEASES_REMEMBERED = 64
_PERCENTILE = 0.9
_MIN_PATIENCE_SHARE = 0.25
_CHECKS_PER_LONGEST_WAIT = 20
_LONGEST_DRAIN = 4  # times the longest wait

_GRANTS_REMEMBERED = 256
_GRANTS_REMEMBERED_SECONDS = 60.0


class DrainPatience:
    """How long a waiter waits before a hot adapter is drained for it.

    A draining adapter leaves its slot when its running requests have ended, so the drain has to
    begin earlier than the longest wait by the 90th percentile of how long leases last.
    """

    def __init__(self, max_slot_wait_seconds: float) -> None:
        self._longest_seconds = max_slot_wait_seconds
        self._lease_seconds: deque[float] = deque(maxlen=_LEASES_REMEMBERED)

    @property
    def check_seconds(self) -> float:
        """How often to check whether a request has waited too long."""
        return self._longest_seconds / _CHECKS_PER_LONGEST_WAIT

    def record_lease(self, seconds: float) -> None:
        """A request has ended that held its adapter for that long."""
        self._lease_seconds.append(seconds)

    def patience_seconds(self) -> float:
        """At least a quarter of the longest wait: requests may last longer than that anyway."""
        early = self._longest_seconds - self.usual_seconds() - 2 * self.check_seconds
        return max(early, self._longest_seconds * _MIN_PATIENCE_SHARE)

    def usual_seconds(self) -> float:
        """Nine of ten leases lately ended sooner; 0 if none has ended."""
        ordered = sorted(self._lease_seconds)
        return ordered[int(_PERCENTILE * (len(ordered) - 1))] if ordered else 0.0

    def longest_drain_seconds(self) -> float:
        """After that a drain is given up: requests of the hot adapter have waited long enough.

        Where leases usually last longer, they may end: no adapter could be drained otherwise.
        """
        return max(_LONGEST_DRAIN * self._longest_seconds, self.usual_seconds())


class RunningLeases:
    """When the leases of each adapter began, to estimate when the last of them ends."""

    def __init__(self) -> None:
        self._began: dict[VersionId, OrderedDict[object, float]] = {}

    def begin(self, version: VersionId, lease: object, now: float) -> None:
        self._began.setdefault(version, OrderedDict())[lease] = now

    def end(self, version: VersionId, lease: object) -> float:
        """Returns when it began."""
        running = self._began[version]
        began = running.pop(lease)
        if not running:
            del self._began[version]
        return began

    def expected_seconds(self, version: VersionId, now: float, *, usual_seconds: float) -> float:
        """Until the last one ends: the rest of the usual duration, or, for one that has lasted
        longer than that, as long again as it has lasted.
        """
        running = self._began.get(version)
        if not running:
            return 0.0
        oldest = now - next(iter(running.values()))
        newest = now - next(reversed(running.values()))
        return oldest if oldest > usual_seconds else usual_seconds - newest


class RetryAfterEstimate:
    """Estimates `Retry-After` from how fast the wait queue moved lately."""

    def __init__(self, clock: Callable[[], float], *, longest_seconds: float) -> None:
        self._clock = clock
        self._longest_seconds = longest_seconds
        self._grants: deque[tuple[float, float]] = deque(maxlen=_GRANTS_REMEMBERED)

    def record_grant(self, load_seconds: float) -> None:
        """A waiter has its slot. `load_seconds`: of its load from disk, 0 if there was none."""
        self._grants.append((self._clock(), load_seconds))

    def retry_after_seconds(self, waiting: int) -> int:
        """When a queue of that length should have passed, and a load too; at least one second.

        Without a recent grant nothing is known, and the answer is the longest wait.
        """
        now = self._clock()
        recent = [grant for grant in self._grants if now - grant[0] <= _GRANTS_REMEMBERED_SECONDS]
        if not recent:
            return math.ceil(self._longest_seconds)
        seconds_per_grant = (now - recent[0][0]) / len(recent)
        longest_load = max(load_seconds for _, load_seconds in recent)
        seconds = max(waiting * seconds_per_grant, longest_load)
        return max(1, math.ceil(min(seconds, self._longest_seconds)))
