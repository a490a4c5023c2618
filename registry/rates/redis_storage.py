"""Redis storage of rates: counts of all servers that name the same Redis.

The library's own windows in Redis begin with a caller's first request. These begin with the minute,
as in memory and in the database, so that a later correction finds the one it belongs to.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from registry.rates.shared_storage import (
    Counts,
    FailureObserver,
    SharedStorage,
    StoreAway,
    Window,
)

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5
"""Longest wait for Redis; then it counts as away."""

AWAY_SECONDS = 5.0
"""Then one request asks it again. The others don't wait for that."""

_MAX_CONNECTIONS = 8
_TAKE = """
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
local before = tonumber(redis.call('GET', KEYS[2])) or 0
if used + math.floor(before * tonumber(ARGV[3])) > tonumber(ARGV[4]) then
  return {0, redis.call('DECRBY', KEYS[1], ARGV[1]), before}
end
return {1, used, before}
"""
_ADD = """
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return used
"""


class RedisStorage(SharedStorage):
    """One script, and one round trip, for each take."""

    STORAGE_SCHEME = ["async+adaptry-redis"]  # noqa: RUF012  # as the library declares it

    def __init__(
        self,
        url: str,
        on_failure: FailureObserver = lambda: None,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        away_seconds: float = AWAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError. Needs what `adaptry[redis]` installs."""
        from redis import asyncio as redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        super().__init__(on_failure)
        self._errors = (RedisError, OSError, TimeoutError)
        pool = redis.BlockingConnectionPool.from_url(
            url, max_connections=_MAX_CONNECTIONS, timeout=answer_seconds
        )
        # a connection from before a restart of Redis fails once
        retry = redis.retry.Retry(NoBackoff(), 1)
        self._redis = redis.Redis.from_pool(pool)
        self._redis.set_retry(retry)
        self._take_script = self._redis.register_script(_TAKE)
        self._add_script = self._redis.register_script(_ADD)
        self._answer_seconds = answer_seconds
        self._away_seconds = away_seconds
        self._clock = clock
        self._away_until = 0.0
        self._is_away = False

    async def close(self) -> None:
        await self._redis.aclose()

    async def take(self, window: Window, limit: int, amount: int) -> Counts:
        keys = [_tag(window.current), _tag(window.previous)]
        values = [amount, window.kept_seconds, window.weight, limit]
        taken, used, before = await self._ask(lambda: self._take_script(keys, values))
        return Counts(bool(taken), used, before)

    async def add(self, name: str, kept_seconds: int, amount: int) -> int:
        values = [amount, kept_seconds]
        return int(await self._ask(lambda: self._add_script([_tag(name)], values)))

    async def read(self, names: Sequence[str]) -> Mapping[str, int]:
        asking = self._redis.pipeline(transaction=False)  # in a cluster they are on several nodes
        for name in names:
            asking.get(_tag(name))
        found = await self._ask(asking.execute)
        return {name: int(used) for name, used in zip(names, found, strict=True) if used}

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self._is_away and self._clock() < self._away_until:
            raise StoreAway
        self._away_until = self._clock() + self._away_seconds
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await call()
        except self._errors as error:
            if not self._is_away:
                kind = type(error).__name__
                logger.warning("Redis is away (%s): each server counts its rates alone", kind)
            self._is_away = True
            raise StoreAway from error
        if self._is_away:
            logger.warning("Redis is back: servers count their rates together")
            self._is_away = False
        return answer


def _tag(name: str) -> str:
    """In a cluster both minutes of a limit are on one node."""
    limit, _, minute = name.rpartition("/")
    return f"adaptry:rates:{{{limit}}}/{minute}"
