"""kill -9 of the server and of its engine, at random moments, under traffic.

On the CPU build with one rank the worker lives in the engine's process: both are killed as one.
"""

import asyncio
import random
from functools import partial

import psutil
import pytest

from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import CHANGES, trial

pytestmark = [pytest.mark.servers("faults")]

ROUNDS, ROUNDS_OF_LONG = 1, 10


@pytest.fixture
def rounds(is_long: bool) -> int:
    return ROUNDS_OF_LONG if is_long else ROUNDS


def pinned(served: Victim) -> set[str]:
    pins = served.client.get("/api/v1/cache/pins").json()["items"]
    return {item["reference"] for item in pins if item["expires_at"] is None}


async def test_a_server_that_is_killed_loses_nothing_and_leaves_no_process(
    served: Victim, rounds: int
) -> None:
    moments = random.Random(1)
    async with trial(served, served.kept, operators=CHANGES) as running:
        for round_ in range(rounds):
            name = f"pinned-{round_}"
            await asyncio.to_thread(served.new_adapter, name, "upper")
            pin = {"reference": name, "tier": "host"}
            answer = await running.world.http.post("/api/v1/cache/pins", json=pin)
            assert answer.status_code == 201, answer.text
            before = await asyncio.to_thread(pinned, served)
            await asyncio.sleep(moments.uniform(0, 2))
            async with running.outage():
                children = await asyncio.to_thread(served.kill)
                assert children
                _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
                assert alive == [], "they end with their server"
                await asyncio.to_thread(served.start)
            await running.until(partial(lambda pins: pinned(served) == pins, before))
            await running.goes_on()
        assert running.count("connection lost") > 0
    for round_ in range(rounds):
        await asyncio.to_thread(served.client.delete, f"/api/v1/cache/pins/pinned-{round_}")


def ended(served: Victim) -> float:
    return served.metric('adaptry_engine_ends_total{cause="died"}')


async def test_an_engine_that_is_killed_is_replaced_and_nothing_is_lost(
    served: Victim, rounds: int
) -> None:
    moments = random.Random(2)
    async with trial(served, served.kept, retryable=["engine_unavailable"]) as running:
        for _ in range(rounds):
            before = await asyncio.to_thread(ended, served)
            await asyncio.sleep(moments.uniform(0, 2))
            engine = served.engine_process()
            engine.kill()
            await running.until(partial(lambda n: ended(served) == n, before + 1))
            await running.until(served.is_ready)
            await running.goes_on()
            assert not engine.is_running()
        assert running.count("refused engine_unavailable") + running.count("cut off") > 0
