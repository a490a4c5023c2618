"""Shared storage of rates: counts of several servers, kept where all of them find it.

While that is away each server counts on its own, in memory.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from registry.rates.memory_storage import MINUTE_SECONDS, BoundedMemoryStorage

FailureObserver = Callable[[], None]
"""Is called for each count that a server made alone because the common ones were away."""


class StoreAway(Exception):
    """The common counts can't be reached now."""


@dataclass(frozen=True, slots=True)
class Window:
    """Names of a limit's counts, and the part of the minute before that is not yet a minute ago."""

    current: str
    previous: str
    weight: float
    kept_seconds: int


@dataclass(frozen=True, slots=True)
class Counts:
    """`is_taken` False: there was no room, and nothing was added."""

    is_taken: bool
    current: int
    previous: int


class SharedStorage(BoundedMemoryStorage, ABC):
    """What was read of the common counts is remembered: `get_sliding_window` asks for nothing."""

    def __init__(self, on_failure: FailureObserver) -> None:
        super().__init__()
        self._on_failure = on_failure

    @abstractmethod
    async def take(self, window: Window, limit: int, amount: int) -> Counts:
        """Add, unless it would be more than the limit. Raises StoreAway."""

    @abstractmethod
    async def add(self, name: str, kept_seconds: int, amount: int) -> int:
        """Add to a count, and return it. Raises StoreAway."""

    @abstractmethod
    async def read(self, names: Sequence[str]) -> Mapping[str, int]:
        """The counts that there are. Raises StoreAway."""

    async def refresh(self, keys: Sequence[str]) -> None:
        """While the common counts are away it leaves what this server knows of them."""
        now = time.time()
        pairs = [self.sliding_window_keys(key, MINUTE_SECONDS, now) for key in keys]
        names = [name for pair in pairs for name in pair]
        try:
            counts = await self.read(names) if names else {}
        except StoreAway:
            self._on_failure()
            return
        for previous, current in pairs:
            self._remember(previous, counts.get(previous, 0), now + MINUTE_SECONDS)
            self._remember(current, counts.get(current, 0), now + 2 * MINUTE_SECONDS)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        now = time.time()
        previous, current = self.sliding_window_keys(key, expiry, now)
        window = Window(current, previous, 1 - now % expiry / expiry, 2 * expiry)
        try:
            counts = await self.take(window, limit, amount)
        except StoreAway:
            self._on_failure()
            return await self._take_alone(window, limit, amount)
        self._remember(current, counts.current, now + 2 * expiry)
        if counts.previous:
            self._remember(previous, counts.previous, now + expiry)
        return counts.is_taken

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        try:
            used = await self.add(key, int(expiry), amount)
        except StoreAway:
            return await super().incr(key, expiry, amount)
        self._remember(key, used, time.time() + expiry)
        return used

    async def _take_alone(self, window: Window, limit: int, amount: int) -> bool:
        """From what was last read of the common counts on."""
        before = int(window.weight * await self.get(window.previous))
        if before + await self.get(window.current) + amount > limit:
            return False
        await super().incr(window.current, window.kept_seconds, amount)
        return True

    def _remember(self, name: str, used: int, expires_at: float) -> None:
        if name not in self.expirations:
            self._make_room(time.time())
            self.expirations[name] = expires_at
        self.storage[name] = used
