"""Rate windows: what was taken of a limit in the last minute, by the library's sliding counter.

It weighs the whole minute before by the part of it that is still less than a minute ago.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from registry.rates.memory_storage import MINUTE_SECONDS, BoundedMemoryStorage

MINUTE = MINUTE_SECONDS


@dataclass(frozen=True, slots=True)
class WindowState:
    """`remaining` may be taken now; all of it after `reset_seconds` without requests."""

    remaining: int
    reset_seconds: float
    previous: int
    current: int
    now: float
    used: int = 0

    def wait_seconds(self, most: int, cost: int) -> int:
        """Time until `cost` may be taken, if nothing else is taken meanwhile."""
        left = MINUTE - self.now % MINUTE
        room = most - cost
        if self.current <= room:  # once less of the minute before counts
            until = left - MINUTE * (room - self.current) / max(self.previous, 1)
        else:  # not within this minute
            until = left + MINUTE * (1 - room / self.current)
        return max(1, math.ceil(until))


class RateWindows:
    """`storage` may be shared by several servers."""

    def __init__(self, storage: BoundedMemoryStorage | None = None) -> None:
        self._storage = storage or BoundedMemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def take(self, subject: str, most: int, cost: int) -> bool:
        """Take `cost`, unless that would be more than `most` in a minute."""
        return await self._limiter.hit(_item(most), subject, cost=cost)

    async def refresh(self, limits: Sequence[tuple[str, int]]) -> None:
        """Read what other servers counted, where it is counted together. Pairs as `state` has."""
        await self._storage.refresh([_item(most).key_for(subject) for subject, most in limits])

    async def state(self, subject: str, most: int) -> WindowState:
        previous, previous_ttl, current, _ = await self._storage.get_sliding_window(
            _item(most).key_for(subject), MINUTE
        )
        used = math.floor(previous * previous_ttl / MINUTE + current)
        now = time.time()
        left = MINUTE - now % MINUTE
        reset = left + MINUTE if current > 0 else left if previous > 0 else 0.0
        return WindowState(max(0, most - used), reset, previous, current, now, max(0, used))

    def known_used(self, subject: str, most: int) -> int:
        """What `state` would say, without asking the shared storage."""
        now = time.time()
        previous, current = self._storage.sliding_window_keys(
            _item(most).key_for(subject), MINUTE, now
        )
        weight = 1 - now % MINUTE / MINUTE
        before, since = (self._storage.known(key, now) for key in (previous, current))
        return max(0, math.floor(before * weight + since))

    def minute(self) -> int:
        """The number of the running minute."""
        return int(time.time() / MINUTE)

    async def correct(self, subject: str, most: int, minute: int, by: int) -> None:
        """Add to what was taken in a minute, or subtract from it, beyond the limit too."""
        if by and minute >= self.minute() - 1:  # else it counts no more
            key = f"{_item(most).key_for(subject)}/{minute}"
            await self._storage.incr(key, 2 * MINUTE, by)


@lru_cache(1024)
def _item(most: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(most)
