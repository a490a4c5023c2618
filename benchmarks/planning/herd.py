"""Herd: a thousand adapters wait over 32 slots. Measures what of one core the event loop needs.

In real time over the fake engine, whose loads and generations only wait: all processor time of the
process is the controller's and the policy's.
"""

import asyncio
import time
from dataclasses import dataclass

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.events import CacheEvent
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, VersionId

ADAPTERS = 1000
SLOTS = 32
HOST_PLACES = 64
LOAD_SECONDS = 0.02
GENERATION_SECONDS = 0.4
MOST_OF_A_CORE = 0.2


@dataclass(frozen=True, slots=True)
class HerdCost:
    wall_seconds: float
    processor_seconds: float
    longest_wait_seconds: float

    @property
    def share(self) -> float:
        return self.processor_seconds / self.wall_seconds


class _NullObserver:
    def on_event(self, event: CacheEvent) -> None:
        return


async def measure() -> HerdCost:
    """From the arrival of all until the last is served. Raises what a lease raises."""
    backend = FakeBackend(slots=SLOTS, host_capacity=HOST_PLACES, load_seconds=LOAD_SECONDS)
    policy = CachePolicy(slots=SLOTS, host_capacity=HOST_PLACES)
    loader = Loader(backend, UncheckedFiles())
    controller = CacheController(policy, backend, loader, _NullObserver())

    async def request(number: int) -> float:
        version = AdapterVersion(
            VersionId(number), f"a{number}", 1, f"{number:064x}", f"/a{number}", 8, 100
        )
        async with controller.lease(version) as lease:
            await asyncio.sleep(GENERATION_SECONDS)
            return lease.wait_seconds

    running = asyncio.create_task(controller.run())
    began, spent = time.perf_counter(), time.process_time()
    waits = await asyncio.gather(*map(request, range(1, ADAPTERS + 1)))
    cost = HerdCost(time.perf_counter() - began, time.process_time() - spent, max(waits))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return cost


def main() -> None:
    cost = asyncio.run(measure())
    print(
        f"{ADAPTERS} adapters over {SLOTS} slots: all served in {cost.wall_seconds:.1f} s, "
        f"{cost.processor_seconds:.2f} s of processor time, {cost.share:.1%} of one core"
    )
    if cost.share >= MOST_OF_A_CORE:
        raise SystemExit(f"at most {MOST_OF_A_CORE:.0%} of one core is allowed")


if __name__ == "__main__":
    main()
