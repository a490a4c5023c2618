"""Operators of a soak: change everything while clients send requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx

from benchmarks.soak.client import ALIASES, PATIENCE_SECONDS
from benchmarks.soak.history import AdapterHistory
from benchmarks.soak.variants import Content
from benchmarks.soak.version_history import FOREVER
from benchmarks.soak.world import Refused, World

MOST_LIVE_VERSIONS = 4  # of one adapter; what is over is retired
GARBAGE = {"dry_run": False, "keep_last": 0, "rollback_window_days": 0, "states": ["retired"]}

Action = Callable[[World], Awaitable[None]]


async def register(world: World, name: str, content: Content) -> int:
    """The number of the version, which may have been there before. Raises Refused."""
    known, path = world.known[name], f"/adapters/{name}/versions"
    had = [number for number, has in known.versions.items() if has.folder == content.folder]
    retirement = known.begin_restore(lambda has: has.folder == content.folder)
    answer = await world.operate("register", "POST", path, json={"source": str(content.folder)})
    number = int(answer["number"])
    if [number] != (had or [len(known.versions) + 1]):
        world.complain(f"{content.folder} became {name}:{number}, not {had}")
    if not had:
        world.events["version.registered"] += 1
    if retirement is not None:
        if answer["state"] == "ready":
            world.events["version.restored"] += 1
            retirement.restored = time.monotonic()
        else:  # it was retired but not purged, and stays so
            retirement.restore_requested = FOREVER
    known.versions[number] = content
    return number


async def add_adapter(world: World, name: str) -> None:
    """Clients use the adapter once it is registered."""
    known = world.known[name] = AdapterHistory()
    with known.move("default", {1: 1}) as meaning:
        await register(world, name, world.variants.next())
        meaning.revision = 1
    world.events["alias.moved"] += 1
    await point(world, name, "prod", {1: 1})
    world.names.append(name)


async def point(world: World, name: str, alias: str, weights: Mapping[int, int]) -> None:
    """Each of them is live. Raises Refused."""
    await _move(world, name, alias, weights, "move" if len(weights) == 1 else "split", "PUT", "")


async def _move(
    world: World,
    name: str,
    alias: str,
    weights: Mapping[int, int],
    what: str,
    method: str,
    after: str,
) -> None:
    known = world.known[name]
    before = known.now(alias).revision if alias in known.aliases else 0
    body = [{"version": number, "weight": weight} for number, weight in weights.items()]
    content = {"weights": body, "expected_revision": before or None} if method == "PUT" else {}
    path = f"/adapters/{name}/aliases/{alias}{after}"
    with known.move(alias, weights) as meaning:
        state = await world.operate(what, method, path, json=content)
    meaning.revision = state["revision"]
    is_now = {each["version"]: each["weight"] for each in state["weights"]}
    if is_now != weights or meaning.revision != before + 1:
        world.complain(f"{what} of {name}@{alias} to {weights}: {state}")
    world.events["alias.moved" if len(weights) == 1 else "alias.split"] += 1


# ---- what they do, each again and again ---------------------------------------------------


async def publish_something(world: World) -> None:
    """Register new or known content, and perhaps move or split an alias."""
    name = world.zipf_choice()
    known, chance = world.known[name], world.random
    async with known.changing:
        again = chance.random() < 0.3
        content = chance.choice(list(known.versions.values())) if again else world.variants.next()
        number = await register(world, name, content)
        if known.is_retired(number) or chance.random() < 0.2:
            return
        alias = chance.choice(ALIASES)
        weights = {number: 1}
        if chance.random() < 0.4:
            weights = {other: chance.randint(1, 9) for other in known.now(alias).weights}
            weights = {**dict(list(weights.items())[:2]), number: chance.randint(1, 9)}
        if weights != known.now(alias).weights:
            await point(world, name, alias, weights)


async def roll_something_back(world: World) -> None:
    """Roll back to the previous state, if all of its versions are live."""
    name, alias = world.zipf_choice(), world.random.choice(ALIASES)
    known = world.known[name]
    async with known.changing:
        states = known.aliases[alias]
        if len(states) > 1 and not any(map(known.is_retired, states[-2].weights)):
            target = states[-2].weights
            await _move(world, name, alias, target, "roll back", "POST", "/rollback")


async def retire_something(world: World) -> None:
    """Retire versions that no alias means, or restore one; sometimes purge immediately."""
    name = world.zipf_choice()
    known = world.known[name]
    async with known.changing:
        if (retired := known.restorable()) and world.random.random() < 0.2:
            await _restore(world, name, world.random.choice(retired))
        while (idle := known.idle()) and len(known.live()) > MOST_LIVE_VERSIONS:
            await _retire(world, name, world.random.choice(idle))


async def _retire(world: World, name: str, number: int) -> None:
    path = f"/adapters/{name}/versions/{number}"
    with world.known[name].retire(number):
        await world.operate("retire", "POST", f"{path}/retire", json={})
    world.events["version.retired"] += 1
    if world.random.random() < 0.3:
        async with world.purging:
            retirement = world.known[name].retirements[number][-1]
            if not retirement.purged:
                await world.operate("purge", "POST", f"{path}/purge", json={})
                world.events["version.purged"] += 1
                retirement.purged = True


async def _restore(world: World, name: str, number: int) -> None:
    async with world.purging:
        retirement = world.known[name].retirements[number][-1]
        if retirement.purged:
            return
        retirement.restore_requested = time.monotonic()
        path = f"/adapters/{name}/versions/{number}/restore"
        await world.operate("restore", "POST", path, json={})
        retirement.restored = time.monotonic()
        world.events["version.restored"] += 1


async def collect_garbage(world: World) -> None:
    async with world.purging:
        found = await world.operate("collect garbage", "POST", "/gc", json=GARBAGE)
        for item in found["purged"]:
            name, _, number = item["reference"].partition(":")
            world.known[name].retirements[int(number)][-1].purged = True
            world.events["version.purged"] += 1
        world.done["  purged by it"] += len(found["purged"])
    if found["orphans"] or set(found["refused"].values()) - {"version_in_use"}:
        world.complain(f"garbage: {found['orphans']} have no row, {found['refused']} were refused")


async def steer_something(world: World) -> None:
    """Pin, unpin, prefetch or evict popular adapters."""
    chance, body = world.random, {"reference": world.zipf_choice()}
    what = chance.choice(("pin", "unpin", "prefetch", "evict"))
    match what:
        case "pin":
            tier, seconds = chance.choice(("gpu", "host")), chance.uniform(0.5, 5)
            pin = {**body, "tier": tier, "ttl_seconds": seconds}
            await world.operate(what, "POST", "/cache/pins", json=pin)
            world.events["cache.pinned"] += 1
        case "unpin":
            await world.operate(what, "DELETE", f"/cache/pins/{body['reference']}")
            world.events["cache.unpinned"] += 1
        case "prefetch":
            await world.operate(what, "POST", "/cache/prefetch", json=body)
        case _:
            waiting = {**body, "wait": chance.random() < 0.5}
            answer = await world.operate(what, "POST", "/cache/evict", json=waiting)
            world.events["cache.evicted"] += answer["evicted"]


OPERATORS: Sequence[tuple[Action, float]] = (  # and the mean of the pause between two, in seconds
    (publish_something, 1.5),
    (roll_something_back, 5.0),
    (retire_something, 1.5),
    (steer_something, 0.7),
    (collect_garbage, 20.0),
)


async def operate(world: World, action: Action, pause_seconds: float) -> None:
    """Repeat until `world.over`."""
    while not world.over.is_set():
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await action(world)
        except Refused:
            pass
        except TimeoutError:
            world.complain(f"stuck: {action.__name__} took more than {PATIENCE_SECONDS:.0f} s")
        except (httpx.HTTPError, ValueError, KeyError) as error:
            world.complain(f"{action.__name__}: {error!r}")
        await asyncio.sleep(world.random.expovariate(1 / pause_seconds))


async def fill(world: World, adapters: Sequence[str]) -> None:
    """Register them all, some concurrently."""
    limit = asyncio.Semaphore(4)

    async def one(name: str) -> None:
        async with limit:
            await add_adapter(world, name)

    await asyncio.gather(*map(one, adapters))


def taught(world: World) -> dict[str, dict[str, Any]]:
    """What client processes need to know about each adapter."""
    return {n: {"name": n, "versions": len(world.known[n].versions)} for n in world.names}
