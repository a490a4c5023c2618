"""Predictions against the real controller: overlapping traffic on a virtual clock, every policy."""

import asyncio
from dataclasses import dataclass, field

import pytest

from adaptry.sizing.prediction import Prediction, Setting, predict, quantile
from adaptry.sizing.workload import Workload, workload_of_rates
from benchmarks.fairness.simulated_loop import run
from benchmarks.sizing.measured import Measured, errors_of
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.events import CacheEvent, MovedIn
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.simulation.replay import Arrival
from engine.simulation.shared_engine import Costs
from engine.types import CacheOutcome, EvictionPolicy, Transition
from tests.support.cache.controller_harness import adapter

STEP, LOAD = 0.02, 0.15
COSTS = Costs(STEP, 0.0, 0.0, LOAD, 0.0)
POLICIES = [each for each in EvictionPolicy if each is not EvictionPolicy.COST]
"""The cost-aware one goes by how long loads took, which is measured on the real clock."""


@dataclass
class Live:
    """The controller over a fake backend, which needs as long as the costs say."""

    setting: Setting
    outcomes: list[CacheOutcome] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    loads: int = 0
    generating: int = 0
    steps_since: float = 0.0

    def on_event(self, event: CacheEvent) -> None:
        if isinstance(event, MovedIn) and event.transition is Transition.DISK_TO_HOST:
            self.loads += 1

    async def _wait_for_step(self, now: float) -> None:
        """All that generate do so in the same steps."""
        if self.generating:
            await asyncio.sleep(-(now - self.steps_since) % STEP)
        else:
            self.steps_since = now

    async def serve(self, workload: Workload) -> Measured:
        loop, setting, shape = asyncio.get_running_loop(), self.setting, self.setting.shape()
        orders = setting.orders()
        policy = CachePolicy(
            slots=setting.slots,
            host_capacity=setting.host_places,
            max_loads=setting.max_loads,
            eviction_order=orders.host,
            slot_order=orders.slots,
        )
        backend = FakeBackend(
            slots=setting.slots, host_capacity=setting.host_places, load_seconds=LOAD
        )
        loader = Loader(backend, UncheckedFiles(), pauses=())
        controller = CacheController(policy, backend, loader, self, shape.limits, loop.time)
        running = asyncio.create_task(controller.run())
        began = loop.time()

        async def ask(arrival: Arrival) -> None:
            await asyncio.sleep(began + arrival.at - loop.time())
            async with controller.lease(adapter(arrival.adapter)) as lease:
                self.outcomes.append(lease.outcome)
                await self._wait_for_step(loop.time())
                self.first_tokens.append(loop.time() + STEP - began - arrival.at)
                self.generating += 1
                await asyncio.sleep(arrival.tokens * STEP)
                self.generating -= 1

        await asyncio.gather(*map(ask, workload.arrivals))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        count = len(self.outcomes)
        return Measured(
            count,
            self.outcomes.count(CacheOutcome.GPU_HIT) / count,
            1 - self.outcomes.count(CacheOutcome.MISS) / count,
            self.loads,
            quantile(self.first_tokens, 0.5),
            quantile(self.first_tokens, 0.99),
        )


def both(setting: Setting, rate: float) -> tuple[Prediction, Measured]:
    workload = workload_of_rates(
        adapters=30, zipf=1.0, rate=rate, seconds=700 / rate, tokens=12, prompt_tokens=0, seed=4
    )
    predicted = predict(workload, COSTS, setting, first_token_seconds=0.5)
    return predicted, run(Live(setting).serve(workload))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("slots", "host_places", "rate"), [(3, 9, 3.0), (6, 16, 9.0)])
def test_loads_hits_and_first_tokens_are_those_of_the_controller(
    policy: EvictionPolicy, slots: int, host_places: int, rate: float
) -> None:
    setting = Setting(slots, host_places, eviction_policy=policy)
    predicted, measured = both(setting, rate)
    errors = errors_of(predicted, measured)
    assert errors.are_within, errors
    assert abs(errors.first_token_p99) <= 0.10, (predicted, measured)
    assert measured.loads > 100
    assert 0.05 < measured.slot_hit_ratio < 0.8
