"""Rates of one server: where the requests, tokens and bytes of keys and tenants are counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.database.engine import Database
from registry.rates.database_storage import DatabaseStorage
from registry.rates.redis_storage import RedisStorage
from registry.rates.shared_storage import FailureObserver
from registry.rates.windows import RateWindows
from registry.settings import RegistrySettings


@asynccontextmanager
async def open_rate_windows(
    database: Database, settings: RegistrySettings, on_failure: FailureObserver
) -> AsyncIterator[RateWindows]:
    """`on_failure`: of what is shared with other servers. Raises ValueError for a malformed URL."""
    if settings.rates_url is None:
        shared = DatabaseStorage(database, on_failure) if settings.share_rates else None
        yield RateWindows(shared)
        return
    redis = RedisStorage(settings.rates_url.get_secret_value(), on_failure)
    try:
        yield RateWindows(redis)
    finally:
        await redis.close()
