"""A wall clock that is set an hour forward and back while all goes on."""

import asyncio
from typing import Any

import pytest

from demo.tasks import TASKS
from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import CHANGES, trial

pytestmark = [pytest.mark.servers("faults")]

HOUR = 3600


def pin(served: Victim, name: str, ttl_seconds: float) -> None:
    body = {"reference": name, "tier": "host", "ttl_seconds": ttl_seconds}
    response = served.client.post("/api/v1/cache/pins", json=body)
    assert response.status_code == 201, response.text


def pinned(served: Victim) -> list[str]:
    items: list[dict[str, Any]] = served.client.get("/api/v1/cache/pins").json()["items"]
    return [item["reference"].partition(":")[0] for item in items]


async def test_a_clock_that_jumps_ends_no_pin_keeps_none_and_stops_nothing(served: Victim) -> None:
    for name in ("long-pin", "short-pin"):
        await asyncio.to_thread(served.new_adapter, name, "reverse")
    async with trial(served, served.kept, operators=CHANGES) as running:
        await asyncio.to_thread(pin, served, "long-pin", HOUR / 2)
        for jump in (HOUR, -HOUR, 0):
            await asyncio.to_thread(pin, served, "short-pin", 3)
            served.harm.set_clock(jump)
            await running.until(lambda: pinned(served) == ["long-pin"], 30)
            await running.goes_on()
            assert (await asyncio.to_thread(served.client.get, "/readyz")).status_code == 200
            right = (200, TASKS["reverse"].answer("hello"))
            assert await asyncio.to_thread(served.ask, "short-pin") == right
    assert await asyncio.to_thread(pinned, served) == ["long-pin"]
    await asyncio.to_thread(served.client.delete, "/api/v1/cache/pins/long-pin")
