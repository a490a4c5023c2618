"""Fairness has bounds: a waiting adapter does not stop the others for longer than is said."""

import asyncio
from dataclasses import replace

from engine.cache.wait_estimates import RunningLeases
from engine.types import AdapterVersion, AdmissionLimits, VersionId
from tests.support.cache.controller_harness import Cache, adapter

STEP = 0.1
BOUND = 4 * 2.0  # times the longest wait
HOT, COLD = adapter(1), adapter(2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A controller whose time passes only in `step`."""

    def __init__(
        self,
        *,
        slots: int,
        host: int,
        host_bytes: int | None = None,
        slot_timeout_seconds: float = 120.0,
    ) -> None:
        self.clock = Clock()
        limits = AdmissionLimits(2.0, slot_timeout_seconds)
        self.cache = Cache(
            slots=slots, host=host, host_bytes=host_bytes, limits=limits, clock=self.clock
        )
        self.waits: dict[VersionId, list[float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, version: AdapterVersion, seconds: float) -> None:
        task = asyncio.create_task(self._request(version, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, version: AdapterVersion, seconds: float) -> None:
        arrived = self.clock.now
        async with self.cache.controller.lease(version):
            until = self.clock.now + seconds
            self.waits.setdefault(version.id, []).append(self.clock.now - arrived)
            while self.clock.now < until:
                await asyncio.sleep(0)

    async def step(self) -> None:
        self.clock.now += STEP
        self.cache.controller._admission.check_drains()
        for _ in range(30):
            await asyncio.sleep(0)

    async def run(self, seconds: float, *often: AdapterVersion, lasting: float = 3.0) -> None:
        """Each second, one more request for each of these."""
        for n in range(round(seconds / STEP)):
            if n % 10 == 0:
                for version in often:
                    self.request(version, lasting)
            await self.step()

    async def end(self) -> None:
        while self._tasks:
            await self.step()


def sized(number: int, size_bytes: int) -> AdapterVersion:
    return replace(adapter(number), size_bytes=size_bytes)


# ---- drains ---------------------------------------------------------------------------------


async def test_one_cold_request_holds_up_a_hot_adapter_for_no_longer_than_the_bound() -> None:
    """One generation of three minutes, many of three seconds, and one request for another one."""
    world = World(slots=1, host=2, slot_timeout_seconds=600.0)
    await world.run(10, HOT)
    world.request(HOT, 180)
    world.request(COLD, 1)
    await world.run(100, HOT)
    assert not world.cache.policy.wait_queue.count(HOT.id), "it is admitted again"
    held_up = [seconds for seconds in world.waits[HOT.id] if seconds > STEP]
    assert len(held_up) <= BOUND + 1, "and once only, while that generation runs"
    await world.run(90, HOT)
    assert COLD.id in world.waits, "it has its slot once that generation has ended"
    await world.end()
    assert max(world.waits[HOT.id]) <= BOUND + 2 * STEP


async def test_a_drain_that_has_begun_goes_on_until_the_bound() -> None:
    """Though the generation that it waits for lasts longer than could be expected."""
    world = World(slots=1, host=2, slot_timeout_seconds=600.0)
    await world.run(10, HOT)
    world.request(HOT, 12)
    await world.run(4, HOT)
    world.request(COLD, 1)
    await world.run(20, HOT)
    assert world.waits[COLD.id][0] <= BOUND + 2 * STEP
    await world.end()


async def test_a_drain_that_can_not_end_in_time_does_not_begin() -> None:
    world = World(slots=1, host=2)
    world.request(HOT, 60)
    await world.run(BOUND + 1, HOT)
    world.request(COLD, 1)
    await world.run(30, HOT)
    assert max(world.waits[HOT.id]) <= STEP
    assert not world.cache.policy.is_leaving(HOT.id)
    await world.run(40)
    await world.end()
    assert COLD.id in world.waits


async def test_no_adapter_is_drained_for_one_that_gives_up_before_it_could_end() -> None:
    """All generations take 20 seconds, and a request waits for a slot for half of that."""
    world = World(slots=1, host=2, slot_timeout_seconds=10.0)
    await world.run(40, HOT, lasting=20.0)
    world.request(COLD, 1)
    await world.run(9.5, HOT, lasting=20.0)
    assert COLD.id not in world.waits
    assert max(world.waits[HOT.id]) <= STEP
    assert not world.cache.policy.is_leaving(HOT.id)
    await world.run(20)
    await world.end()


async def test_where_all_generations_are_long_a_cold_adapter_still_gets_a_slot() -> None:
    world = World(slots=1, host=2)
    await world.run(60, HOT, lasting=20.0)
    world.request(COLD, 1)
    await world.run(60, HOT, lasting=20.0)
    assert max(world.waits[COLD.id]) <= 2 * 20.0
    await world.end()


def test_a_lease_older_than_usual_is_expected_to_last_as_long_again() -> None:
    running, leases = RunningLeases(), [object(), object()]
    assert running.expected_seconds(HOT.id, 100.0, usual_seconds=3.0) == 0
    running.begin(HOT.id, leases[0], 100.0)
    running.begin(HOT.id, leases[1], 101.0)
    assert running.expected_seconds(HOT.id, 102.0, usual_seconds=3.0) == 2.0
    assert running.expected_seconds(HOT.id, 110.0, usual_seconds=3.0) == 10.0
    running.end(HOT.id, leases[0])
    running.end(HOT.id, leases[1])
    assert running.expected_seconds(HOT.id, 110.0, usual_seconds=3.0) == 0


# ---- a byte budget --------------------------------------------------------------------------


async def test_a_large_adapter_that_does_not_fit_yet_lets_those_that_fit_pass() -> None:
    """A and B fill host memory, B with a long generation; C needs nearly all of it; D is small."""
    a, b, c, d = sized(1, 50), sized(2, 40), sized(3, 90), sized(4, 10)
    world = World(slots=3, host=8, host_bytes=100)
    await world.run(10, a, lasting=0.5)
    world.request(b, 100)
    await world.run(BOUND + 2, a, lasting=0.5)
    world.request(c, 1)
    await world.run(60, a, d, lasting=0.5)
    assert world.cache.policy.wait_queue.versions() == [c.id]
    assert max(world.waits[a.id]) <= 2 * STEP
    assert max(world.waits[d.id]) <= 2 * STEP
    assert c.id not in world.waits
    await world.run(40, a, d, lasting=1.5)  # never idle
    assert c.id in world.waits, "its turn comes once B has ended"
    await world.end()
    assert max(world.waits[a.id]) <= BOUND + 2 * STEP
    world.cache.check()


async def test_large_adapters_that_do_not_fit_yet_leave_loads_for_the_others() -> None:
    b, small = sized(1, 50), sized(9, 10)
    world = World(slots=3, host=8, host_bytes=100)
    world.request(b, 30)
    await world.run(BOUND + 2)
    for number in (2, 3):  # as many as may be loaded at a time
        world.request(sized(number, 90), 1)
    await world.run(1)
    world.request(small, 1)
    await world.run(1)
    assert small.id in world.waits
    await world.end()
