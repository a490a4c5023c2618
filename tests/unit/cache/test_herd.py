"""A herd: many more distinct adapters wait together than there are slots."""

import asyncio

from engine.types import AdmissionLimits
from tests.support.cache.controller_harness import Cache, adapter, running

ADAPTERS = 1000


async def test_a_thousand_adapters_that_arrive_together_are_all_served_without_a_timeout() -> None:
    limits = AdmissionLimits(slot_timeout_seconds=60.0)
    cache = Cache(slots=32, host=64, limits=limits)
    served: list[int] = []

    async def request(number: int) -> None:
        async with cache.controller.lease(adapter(number)):
            await asyncio.sleep(0.001)
            served.append(number)

    async with running(cache):
        await asyncio.gather(*map(request, range(1, ADAPTERS + 1)))
    assert sorted(served) == list(range(1, ADAPTERS + 1))
    cache.check()
