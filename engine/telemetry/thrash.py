"""Thrash ratio: share of lookups that miss a just-evicted adapter."""

from collections import deque
from collections.abc import Callable

from engine.events import CacheEvent, Evicted, LookedUp
from engine.types import CacheOutcome, EvictionReason, VersionId

WINDOW_SECONDS = 300.0
WINDOW_LOOKUPS = 1000
RECENT_SECONDS = 60.0

_ROOM_REASONS = (EvictionReason.CAPACITY, EvictionReason.HOST_EVICTED)

_SLOT_HIT = CacheOutcome.GPU_HIT


class ThrashWindow:
    """An observer of the last 1,000 lookups within the last five minutes.

    A lookup thrashes if its adapter was in no slot, and had been evicted from one, or from host
    memory, to make room less than a minute before the request.
    """

    observed = frozenset({LookedUp, Evicted})

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._evicted_at: dict[VersionId, float] = {}  # earliest eviction first
        self._lookups: deque[tuple[float, bool]] = deque(maxlen=WINDOW_LOOKUPS)
        self._thrashing = 0

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LookedUp(outcome=outcome):
                self._add(is_thrash=outcome is not _SLOT_HIT and self._is_thrash(event))
            case Evicted(version=version, reason=reason) if reason in _ROOM_REASONS:
                self._evicted_at.pop(version.id, None)
                self._evicted_at[version.id] = self._clock()
                self._drop_expired()

    def ratio(self) -> float:
        """Share of thrashing lookups in the window; 0 if it is empty."""
        self._drop_expired()
        return self._thrashing / len(self._lookups) if self._lookups else 0.0

    def _is_thrash(self, lookup: LookedUp) -> bool:
        evicted_at = self._evicted_at.get(lookup.version.id)
        if evicted_at is None:
            return False
        return self._clock() - lookup.wait_seconds - evicted_at < RECENT_SECONDS

    def _add(self, *, is_thrash: bool) -> None:
        if len(self._lookups) == WINDOW_LOOKUPS:
            self._thrashing -= self._lookups.popleft()[1]
        self._lookups.append((self._clock(), is_thrash))
        self._thrashing += is_thrash

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._lookups and now - self._lookups[0][0] > WINDOW_SECONDS:
            self._thrashing -= self._lookups.popleft()[1]
        keep_seconds = WINDOW_SECONDS  # a request may have waited for long
        while self._evicted_at and now - next(iter(self._evicted_at.values())) > keep_seconds:
            del self._evicted_at[next(iter(self._evicted_at))]
