"""Resolution speed: in process, as for each generation, and over HTTP."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from benchmarks.common.http_load import requests_per_second
from benchmarks.registry.process import started
from benchmarks.registry.rows import ADAPTERS, VERSIONS_EACH, adapter_name
from engine.resolver import RegistryResolver
from registry.aliases.service import AliasService
from registry.catalog.catalog import Catalog
from registry.database.engine import Database

Figures = dict[str, float]

CALLS = 100_000
MOVES_EVERY_SECONDS = 0.05
HTTP_SECONDS = 8.0
CONNECTIONS = 16


async def in_process(database: Database) -> Figures:
    """References of 20,000 adapters: uncached, cached, and while aliases change."""
    resolver = RegistryResolver(Catalog(database, Path))
    references = [adapter_name(n) for n in range(ADAPTERS)]
    cold = await _time(resolver, references)
    figures = {"first resolve, ms": cold[len(cold) // 2] * 1000}
    drawn = random.Random(2).choices(references, k=CALLS)
    figures |= _figures("resolve", await _time(resolver, drawn))
    async with _move_aliases(database):
        figures |= _figures("resolve while aliases move", await _time(resolver, drawn))
    return figures


async def _time(resolver: RegistryResolver, references: list[str]) -> list[float]:
    """Seconds of each call, the shortest first."""
    seconds = []
    for n, reference in enumerate(references):
        began = time.perf_counter()
        await resolver.resolve(reference)
        seconds.append(time.perf_counter() - began)
        if n % 100 == 0:
            await asyncio.sleep(0)  # a kept answer waits for nothing, so others would starve
    return sorted(seconds)


def _figures(name: str, seconds: list[float]) -> Figures:
    return {
        f"{name}, /s": len(seconds) / sum(seconds),
        f"{name}, p99 ms": seconds[len(seconds) * 99 // 100] * 1000,
    }


@asynccontextmanager
async def _move_aliases(database: Database) -> AsyncIterator[None]:
    """Meanwhile aliases of random adapters move, about twenty per second."""
    aliases, rng = AliasService(database), random.Random(3)

    async def move() -> None:
        while True:
            await asyncio.sleep(MOVES_EVERY_SECONDS)
            name = adapter_name(rng.randrange(ADAPTERS))
            await aliases.point(name, "canary", {VERSIONS_EACH: 1}, actor="benchmark")
            await aliases.delete(name, "canary", actor="benchmark")

    moving = asyncio.create_task(move())
    try:
        yield
    finally:
        moving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await moving


async def over_http(url: str, folder: Path) -> Figures:
    """`GET /resolve` of a server with its own core, from a client on the other core."""
    async with started(url, folder) as (port, _):
        rate = await requests_per_second(
            port, _paths(), connections=CONNECTIONS, seconds=HTTP_SECONDS
        )
        warm = await requests_per_second(
            port, _paths(), connections=CONNECTIONS, seconds=HTTP_SECONDS
        )
    return {"resolve over HTTP, nothing kept yet, /s": rate, "resolve over HTTP, /s": warm}


def _paths() -> Iterator[str]:
    """References of a thousand adapters, which one engine may serve."""
    rng = random.Random(4)
    while True:
        yield f"/api/v1/resolve?reference={quote(adapter_name(rng.randrange(1000)))}"
