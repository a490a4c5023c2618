"""How much of what is asked for had to leave a moment before: the cache is too small for it."""

from collections import deque
from collections.abc import Callable

from engine.events import CacheEvent, Evicted, LookedUp
from engine.types import CacheOutcome, EvictionReason, VersionId

WINDOW_SECONDS = 300.0
WINDOW_LOOKUPS = 1000
RECENT_SECONDS = 60.0

_FOR_ROOM = (EvictionReason.CAPACITY, EvictionReason.HOST_EVICTED)


class ThrashWindow:
    """The last 1,000 lookups, as far as they are of the last five minutes.

    A lookup thrashes if its adapter was in no slot, and had left one, or host memory, to make room
    less than a minute before it was asked for. An observer.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left_at: dict[VersionId, float] = {}  # the longest gone first
        self._lookups: deque[tuple[float, bool]] = deque(maxlen=WINDOW_LOOKUPS)
        self._thrashing = 0

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case Evicted(version=version, reason=reason) if reason in _FOR_ROOM:
                self._left_at.pop(version.id, None)
                self._left_at[version.id] = self._clock()
                self._forget()
            case LookedUp():
                self._add(self._thrashes(event))

    def ratio(self) -> float:
        """Thrashing lookups among all in the window; 0 if there was none."""
        self._forget()
        return self._thrashing / len(self._lookups) if self._lookups else 0.0

    def _thrashes(self, lookup: LookedUp) -> bool:
        left_at = self._left_at.get(lookup.version.id)
        if left_at is None or lookup.outcome is CacheOutcome.GPU_HIT:
            return False
        return self._clock() - lookup.wait_seconds - left_at < RECENT_SECONDS

    def _add(self, thrashes: bool) -> None:
        if len(self._lookups) == WINDOW_LOOKUPS:
            self._thrashing -= self._lookups.popleft()[1]
        self._lookups.append((self._clock(), thrashes))
        self._thrashing += thrashes

    def _forget(self) -> None:
        now = self._clock()
        while self._lookups and now - self._lookups[0][0] > WINDOW_SECONDS:
            self._thrashing -= self._lookups.popleft()[1]
        kept_seconds = WINDOW_SECONDS  # a request may have waited for long
        while self._left_at and now - next(iter(self._left_at.values())) > kept_seconds:
            del self._left_at[next(iter(self._left_at))]
