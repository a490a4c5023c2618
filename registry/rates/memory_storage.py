"""Memory storage of rates: the library's, bounded, and without its scan of all keys at each hit."""

import time
from collections.abc import Sequence

from limits.aio.storage import MemoryStorage

MAX_KEYS = 100_000
MINUTE_SECONDS = 60


class BoundedMemoryStorage(MemoryStorage):
    """Keys expire in the order in which they began to count: all are kept for the same time.

    Beyond `max_keys` the oldest is forgotten, so that many addresses can't fill the memory.
    """

    STORAGE_SCHEME = ["async+bounded-memory"]  # noqa: RUF012  # as the library declares it

    def __init__(self, uri: str | None = None, max_keys: int = MAX_KEYS) -> None:
        super().__init__(uri)
        self._max_keys = max_keys

    async def refresh(self, keys: Sequence[str]) -> None:
        """No other server counts here."""

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        if self.expirations.get(key, 0) <= now:
            await self.clear(key)
            self._make_room(now)
            self.expirations[key] = now + expiry
        self.storage[key] += amount
        return self.storage[key]

    async def decr(self, key: str, amount: int = 1) -> int:
        return await self.incr(key, 0, -amount) if key in self.storage else 0

    def known(self, key: str, now: float) -> int:
        """0 if it has expired."""
        return self.storage.get(key, 0) if self.expirations.get(key, 0) > now else 0

    def _make_room(self, now: float) -> None:
        """At most two for each new one: then there are never many expired ones."""
        for _ in range(2):
            oldest = next(iter(self.expirations), None)
            if oldest is None:
                return
            if self.expirations[oldest] > now and len(self.expirations) < self._max_keys:
                return
            del self.expirations[oldest]
            self.storage.pop(oldest, None)
