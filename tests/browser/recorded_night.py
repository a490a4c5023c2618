"""A night of a server's cache, as its recorder would have saved it, hours before the test."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from engine.history.recorder import HistoryRecorder
from engine.types import Tier
from registry.cache_history import CacheHistoryStore
from registry.database.engine import Database
from tests.browser.console_server import ConsoleServer
from tests.support.cache.controller_harness import Cache, adapter, running, settle

UPPER, VOWELS, REVERSE = adapter(1, "upper"), adapter(2, "vowels"), adapter(3, "reverse")
NAMES = ("support", "mail", "sales", "legal", "search", "crm", "triage")
HOURS_AGO = 6


class Night:
    """A recorder's clock: last night, as the server has it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp() // 60 * 60 - HOURS_AGO * 3600

    def __call__(self) -> float:
        return self.now

    def at(self, seconds: float) -> str:
        return datetime.fromtimestamp(self.now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def recorded(
    database: Database, name: str, night: Night, *, slots: int, host: int
) -> AsyncIterator[tuple[Cache, HistoryRecorder]]:
    """A cache whose history is that of the server `name`, by the night's clock."""
    store = CacheHistoryStore(database, name, keep_seconds=86400, max_bytes=10**7)
    recorder = HistoryRecorder(store, clock=night)
    cache = Cache(slots=slots, host=host, besides=recorder, clock=night)
    recorder.watch(cache.controller.snapshot)
    async with running(cache):
        yield cache, recorder


async def record(server: ConsoleServer, night: Night, name: str | None = None) -> None:
    """A minute of that night: `reverse` waits for a slot, gets that of `vowels`, and is pinned."""
    began = night.now
    where = server.registry.database, name or server.registry.server_id
    async with recorded(*where, night, slots=2, host=3) as (cache, recorder):
        night.now = began + 5
        async with cache.controller.lease(UPPER):
            night.now = began + 10
            await cache.use(VOWELS)
            async with cache.controller.lease(VOWELS):
                waiting = asyncio.create_task(cache.use(REVERSE))
                await settle()
                await recorder.flush()
                night.now = began + 25
        await waiting
        await settle()
        await cache.controller.pin(REVERSE, Tier.GPU)
        night.now = began + 55
        await recorder.flush()
    night.now = began


async def record_quiet(server: ConsoleServer, night: Night, name: str) -> None:
    """The same minute of another server, which is asked for `reverse` alone."""
    began = night.now
    database = server.registry.database
    async with recorded(database, name, night, slots=2, host=3) as (cache, recorder):
        night.now = began + 5
        await cache.use(REVERSE)
        await settle()
        night.now = began + 55
        await recorder.flush()
    night.now = began


async def record_hours(database: Database, name: str, night: Night) -> None:
    """Six hours of seven adapters in four slots, which thrash in the fourth hour."""
    began, rng = night.now, random.Random(1)
    versions = [
        replace(adapter(n, each), rank=16, size_bytes=8_000_000 * (1 + n % 3))
        for n, each in enumerate(NAMES, 1)
    ]
    async with recorded(database, name, night, slots=4, host=6) as (cache, recorder):
        for step in range(HOURS_AGO * 12):
            night.now = began + step * 300
            await recorder.flush()
            weights = [1] * 7 if 36 <= step < 48 else [30, 14, 8, 5, 1, 1, 1]
            for version in rng.choices(versions, weights, k=20 + rng.randrange(30)):
                night.now += 0.4
                await cache.use(version)
                await settle()
            await recorder.flush()
            night.now = began + step * 300 + 290
            await recorder.flush()
    night.now = began
