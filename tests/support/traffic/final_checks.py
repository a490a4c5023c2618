"""What a soak reads back from the server once everything is quiet."""

import asyncio
import time
from typing import Any

from tests.support.traffic.expected_state import World

QUIET_SECONDS = 30.0


async def read_back(world: World) -> None:
    """Every registration and alias is what it was told to be; the cache holds what it says."""
    for name in {name for name, _ in world.registered}:
        versions = await _items(world, f"/adapters/{name}/versions")
        there = {(name, item["number"]) for item in versions}
        for _, number in {each for each in world.registered if each[0] == name} - there:
            world.complain(f"lost: {name}:{number} was registered")
    for name in world.names:
        await _adapter(world, name)
    await _cache(world)


async def _adapter(world: World, name: str) -> None:
    known = world.known[name]
    versions = await _items(world, f"/adapters/{name}/versions")
    states = {item["number"]: item["state"] for item in versions}
    for number in known.versions:
        wanted = ("retired", "purged") if known.is_retired(number) else ("ready",)
        if states.get(number) not in wanted:
            world.complain(f"{name}:{number} is {states.get(number)}, and should be {wanted}")
    aliases = {
        item["alias"]: item["version"] for item in await _items(world, f"/adapters/{name}/aliases")
    }
    for alias in known.aliases:
        if aliases.get(alias) not in known.now(alias):
            world.complain(f"{name}@{alias} is {aliases.get(alias)}, not {known.now(alias)}")


async def _items(world: World, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        query = {"page_token": token} if token else {}
        page = (await world.http.get(f"/api/v1{path}", params=query)).json()
        found += page["items"]
        token = page.get("next_page_token") or ""
        if not token:
            return found


async def _cache(world: World) -> None:
    """Leases are all given back, and vLLM holds what the controller thinks."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        cache = (await world.http.get("/api/v1/cache")).json()
        if not cache["waiting"] and not cache["loading"] and _leases(cache) == 0:
            break
        await asyncio.sleep(0.2)
    else:
        world.complain(f"not quiet after {QUIET_SECONDS:.0f} s: {cache}")
    state = (await world.http.get("/api/v1/cache/engine")).json()
    for tier in ("gpu", "host"):
        if {r["version_id"] for r in cache[tier]} != set(state[tier]):
            world.complain(f"the {tier} tier differs: {cache[tier]} and {state[tier]}")
    if state["in_step_loads"]:
        world.complain(f"{state['in_step_loads']} loads inside a step")
    text = (await world.http.get("/metrics")).text
    drift = [line for line in text.splitlines() if line.startswith("adaptry_drift_total")]
    if not drift or float(drift[0].rpartition(" ")[2]):
        world.complain(f"drift: {drift}")


def _leases(cache: dict[str, Any]) -> int:
    return sum(resident["leases"] for resident in cache["gpu"])
