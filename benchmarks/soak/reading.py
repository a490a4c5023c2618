"""Readings for `checks`: state read back from the server, now and then, and at the end."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak.checks import (
    Page,
    alias_faults,
    cache_faults,
    count_faults,
    event_faults,
    follower_faults,
    page_faults,
    quiet_faults,
    store_faults,
    version_faults,
)
from benchmarks.soak.world import World

QUIET_SECONDS = 40.0
PAGE_SIZE = 100


async def page_of(world: World) -> Page:
    return Page((await world.http.get("/metrics")).text)


async def look(world: World) -> Page:
    """During the traffic."""
    world.wrong.extend(cache_faults(await _get(world, "/cache")))
    world.done["looks at the cache"] += 1
    return await page_of(world)


async def read_back(world: World, followed: list[int], store: Path) -> None:
    """Once traffic has stopped."""
    await _wait_until_quiet(world)
    cache, engine = await _get(world, "/cache"), await _get(world, "/cache/engine")
    world.wrong.extend(quiet_faults(cache, engine))
    page = await page_of(world)
    world.wrong.extend((*page_faults(page), *count_faults(page, world)))
    for name in world.names:
        await _read_adapter(world, name)
    events = await _items(world, "/events")
    world.wrong.extend(event_faults(world.events, events))
    world.wrong.extend(follower_faults(followed, events))
    stored = [folder for folder in store.glob("adapters/*/*") if folder.is_dir()]
    world.wrong.extend(store_faults(world, len(stored)))


async def _wait_until_quiet(world: World) -> None:
    """Pins have run out, and the registry's gauges, which are counted every five seconds, too."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        faults = [*_unrest(await _get(world, "/cache")), *page_faults(await page_of(world))]
        if not faults:
            await asyncio.sleep(6)
            return
        await asyncio.sleep(1)


def _unrest(cache: dict[str, Any]) -> Iterator[str]:
    if cache["waiting"] or cache["loading"]:
        yield "requests or loads are under way"


async def _read_adapter(world: World, name: str) -> None:
    known = world.known[name]
    versions = await _items(world, f"/adapters/{name}/versions")
    world.wrong.extend(version_faults(name, known, versions))
    for alias in known.aliases:
        states = await _items(world, f"/adapters/{name}/aliases/{alias}/history")
        world.wrong.extend(alias_faults(name, alias, known, states))


async def _get(world: World, path: str, **query: Any) -> dict[str, Any]:
    response = await world.http.get(f"/api/v1{path}", params=query)
    response.raise_for_status()
    content: dict[str, Any] = response.json()
    return content


async def _items(world: World, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": PAGE_SIZE}
    while True:
        page = await _get(world, path, **query)
        found += page["items"]
        if not (token := page.get("next_page_token")):
            return found
        query["page_token"] = token


async def follow(http: httpx.AsyncClient, into: list[int]) -> None:
    """The ids of all events from the stream, starting with the first. Until cancelled."""
    timeout = httpx.Timeout(10, read=None)
    path = "/api/v1/events/stream?after=0"
    async with http.stream("GET", path, timeout=timeout) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                into.append(json.loads(line.removeprefix("data: "))["id"])
