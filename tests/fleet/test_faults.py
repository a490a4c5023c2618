"""Faults in a fleet under traffic: no request is lost, answered wrongly or stuck."""

import asyncio
import random
import time
from functools import partial

import psutil
import pytest

from fleet.placement import first_for
from tests.fleet.conftest import PROXY, REPLICA, REPLICAS, ServedFleet
from tests.support.servers.adaptry_serve import ROOT, START_SECONDS, is_engine
from tests.support.traffic.fault_trial import CHANGES, trial

pytestmark = [pytest.mark.servers("fleet"), pytest.mark.timeout(900)]

OUTAGE_SECONDS = 10.0
SEEN_SECONDS = 3.0  # the ingress polls every second
CLIENTS = 2


def engine_of(replica: psutil.Process) -> psutil.Process:
    (core,) = [each for each in replica.children(recursive=True) if is_engine(each)]
    return core


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running()


async def test_a_killed_replica_is_replaced_while_the_others_serve(
    fleet: ServedFleet,
) -> None:
    async with trial(
        fleet, fleet.kept, retryable=["engine_unavailable"], operators=CHANGES, clients=CLIENTS
    ) as running:
        pin = {"reference": "adapter-0", "tier": "host"}
        pinned = await running.world.http.post("/api/v1/cache/pins", json=pin)
        assert pinned.status_code == 201, pinned.text
        reference = pinned.json()["reference"]
        await asyncio.sleep(random.uniform(0, 2))
        victim = random.choice(await asyncio.to_thread(fleet.processes, REPLICA))
        engine = engine_of(victim)
        victim.kill()
        await running.goes_on()  # served by the other replica meanwhile
        await running.until(partial(has_ended, engine), 30)
        await running.until(fleet.is_whole, START_SECONDS)
        await running.until(lambda: len(fleet.pinned_on(reference)) == REPLICAS, 30)
        assert running.count("connection lost") == 0
    await asyncio.to_thread(fleet.client.delete, f"/api/v1/cache/pins/{reference}")


def quiet_on_each(fleet: ServedFleet) -> list[str]:
    """References without traffic, one for each replica, in the memory of that replica only."""
    names = fleet.replicas()
    of_replica = {first_for(f"quiet-{n}:1", names, 1): f"quiet-{n}" for n in range(100)}
    assert len(of_replica) == REPLICAS
    source = {"source": str(ROOT / "demo" / "adapters" / "upper")}
    for chosen, name in of_replica.items():
        made = fleet.client.post(f"/api/v1/adapters/{name}/versions", json=source)
        assert made.status_code == 201, made.text
        wanted = {"reference": f"{name}:1", "replicas": 1}
        assert fleet.client.post("/api/v1/cache/prefetch", json=wanted).status_code == 202
        fleet.wait_until(partial(_is_held_by, fleet, f"{name}:1", chosen))
    return [f"{name}:1" for name in of_replica.values()]


def _is_held_by(fleet: ServedFleet, reference: str, replicas: frozenset[str]) -> bool:
    return fleet.holders(reference) == replicas


def test_adapters_of_a_killed_replica_are_reloaded_before_a_request_needs_them(
    fleet: ServedFleet,
) -> None:
    quiet = quiet_on_each(fleet)
    time.sleep(SEEN_SECONDS)
    victim = random.choice(fleet.processes(REPLICA))
    victim.kill()
    fleet.wait_until(lambda: not all(map(fleet.holders, quiet)))
    fleet.wait_until(fleet.is_whole, START_SECONDS)
    fleet.wait_until(lambda: all(map(fleet.holders, quiet)))


async def test_requests_of_a_killed_engine_go_to_the_other_replica(
    fleet: ServedFleet,
) -> None:
    async with trial(
        fleet, fleet.kept, retryable=["engine_unavailable"], operators=CHANGES, clients=CLIENTS
    ) as running:
        replicas = set(await asyncio.to_thread(fleet.replicas))
        victim = (await asyncio.to_thread(fleet.processes, REPLICA))[0]
        engine_of(victim).kill()
        await running.until(lambda: len(fleet.replicas()) < REPLICAS, 60)
        before = running.answered
        await running.goes_on()
        assert running.answered > before
        await running.until(fleet.is_whole, START_SECONDS)
        assert set(await asyncio.to_thread(fleet.replicas)) == replicas, "only the engine is new"


async def test_a_killed_proxy_is_restarted_and_nothing_is_lost(fleet: ServedFleet) -> None:
    async with trial(fleet, fleet.kept, operators=CHANGES, clients=CLIENTS) as running:
        replicas = await asyncio.to_thread(fleet.replicas)
        async with running.outage():
            (proxy,) = await asyncio.to_thread(fleet.processes, PROXY)
            proxy.kill()
            await running.until(fleet.is_ready)
        await running.goes_on()
        assert await asyncio.to_thread(fleet.replicas) == replicas


async def test_a_frozen_database_does_not_stop_generation(fleet: ServedFleet) -> None:
    async with trial(
        fleet, fleet.kept, retryable=["database_unavailable"], operators=CHANGES, clients=CLIENTS
    ) as running:
        with fleet.postgres.standing_still():
            before = running.answered
            await asyncio.sleep(OUTAGE_SECONDS)
            await running.until(lambda: running.answered > before)
        await running.goes_on()


async def test_a_dead_database_is_a_503_until_it_is_back(fleet: ServedFleet) -> None:
    async with trial(
        fleet, fleet.kept, retryable=["database_unavailable"], operators=CHANGES, clients=CLIENTS
    ) as running:
        before = running.answered
        await asyncio.to_thread(fleet.postgres.kill)
        await asyncio.sleep(OUTAGE_SECONDS)
        await running.until(lambda: running.answered > before)
        await asyncio.to_thread(fleet.postgres.start)
        await running.until(fleet.is_ready)
        await running.goes_on()
