"""Sweep of fairness: hot adapters keep every slot busy when cold ones arrive, all in one moment.

The controller and the policy are the real ones, over the fake engine and simulated time.
"""

import asyncio
import random
from dataclasses import dataclass, field

from benchmarks.fairness.simulated_loop import run
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.errors import SlotWaitTimeout
from engine.events import CacheEvent
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, AdmissionLimits, VersionId

SLOTS = 4
STREAMS_PER_HOT = 8
COLD_GENERATION_SECONDS = 1.0
LOAD_SECONDS = 0.05


@dataclass(slots=True)
class Waits:
    """Seconds that requests waited for their slot, from when the cold ones arrived."""

    cold: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    timed_out: int = 0
    seconds: float = 0.0
    """Until the last cold request had its slot, or had failed."""


class _NullObserver:
    def on_event(self, event: CacheEvent) -> None:
        return


def measure(generation_seconds: float, waiting: int, limits: AdmissionLimits) -> Waits:
    """`waiting`: cold adapters, with one request each. Hot generations take `generation_seconds`,
    give or take a fifth."""
    return run(_Sweep(generation_seconds, limits).measure(waiting))


class _Sweep:
    def __init__(self, generation_seconds: float, limits: AdmissionLimits) -> None:
        self._generation_seconds = generation_seconds
        self._limits = limits
        self._random = random.Random(0)
        self._waits = Waits()
        self._counts = False

    async def measure(self, waiting: int) -> Waits:
        clock = asyncio.get_running_loop().time
        backend = FakeBackend(slots=SLOTS, host_capacity=4 * SLOTS, load_seconds=LOAD_SECONDS)
        policy = CachePolicy(slots=SLOTS, host_capacity=4 * SLOTS)
        self._controller = CacheController(
            policy, backend, Loader(backend, UncheckedFiles()), _NullObserver(), self._limits, clock
        )
        async with asyncio.TaskGroup() as group:
            hot = [_version(number) for number in range(SLOTS)] * STREAMS_PER_HOT
            work = [self._controller.run(), *map(self._stream, hot)]
            background = [group.create_task(each) for each in work]
            await asyncio.sleep(3 * self._generation_seconds)
            self._counts, began = True, clock()
            await asyncio.gather(*map(self._ask_cold, range(SLOTS, SLOTS + waiting)))
            self._waits.seconds = clock() - began
            await asyncio.sleep(2 * self._generation_seconds)  # hot ones that wait still
            for task in background:
                task.cancel()
        return self._waits

    async def _stream(self, version: AdapterVersion) -> None:
        await asyncio.sleep(self._random.uniform(0, self._generation_seconds))
        while True:
            await self._ask_hot(version)

    async def _ask_hot(self, version: AdapterVersion) -> None:
        try:
            async with self._controller.lease(version) as lease:
                if self._counts:
                    self._waits.hot.append(lease.wait_seconds)
                await asyncio.sleep(self._generation_seconds * self._random.uniform(0.8, 1.2))
        except SlotWaitTimeout:
            if self._counts:
                self._waits.timed_out += 1

    async def _ask_cold(self, number: int) -> None:
        try:
            async with self._controller.lease(_version(number)) as lease:
                self._waits.cold.append(lease.wait_seconds)
                await asyncio.sleep(COLD_GENERATION_SECONDS)
        except SlotWaitTimeout:
            self._waits.timed_out += 1


def _version(number: int) -> AdapterVersion:
    return AdapterVersion(
        VersionId(number + 1), f"a{number}", 1, f"{number:064x}", f"/a{number}", 8, 100
    )
