"""Comparison of eviction policies on one trace: without a queue of requests, and with one."""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.policies.in_order import misses, misses_of_known
from engine.policy.eviction_orders.choice import TierOrders, create_orders
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.optimum import least_misses
from engine.simulation.agenda import Agenda
from engine.simulation.oracle import FrequencyOracleOrder, OracleOrder
from engine.simulation.replay import Arrival, Replayed, replay
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import Costs
from engine.types import EvictionPolicy, VersionId

COSTS = Costs(  # an H200 with Llama-3.1-8B's shape, as in docs/scale.md, and short prompts
    step_seconds=0.00646,
    step_seconds_per_request=0.0000095,
    prefill_seconds=0.003,
    load_seconds=0.0224,
    activate_seconds=0.00065,
)
SHAPE = Shape(slots=8, host_capacity=32)
QUIET = 4.0, 32
"""Requests a second, and tokens of each: nearly all find a slot that is idle."""
BUSY = 30.0, 64
"""More adapters are wanted at a time than there are slots: a queue stands."""


def arrivals(used: Sequence[int], load: tuple[float, int], seed: int) -> list[Arrival]:
    """Poisson arrivals, geometric lengths."""
    chance, now, rate, mean = random.Random(seed), 0.0, *load
    trace = []
    for adapter in used:
        now += chance.expovariate(rate)
        trace.append(Arrival(now, VersionId(adapter), 1 + int(chance.expovariate(1 / mean))))
    return trace


def served_by(policy: EvictionPolicy, trace: Sequence[Arrival], shape: Shape) -> Replayed:
    return replay(trace, COSTS, shape, orders=create_orders(policy))


def served_by_oracle(trace: Sequence[Arrival], shape: Shape) -> Replayed:
    agenda = Agenda()
    order = OracleOrder([(each.at, each.adapter) for each in trace], agenda)
    return replay(trace, COSTS, shape, orders=TierOrders(order, None), agenda=agenda)


def served_by_frequencies(trace: Sequence[Arrival], shape: Shape) -> Replayed:
    order = FrequencyOracleOrder(each.adapter for each in trace)
    return replay(trace, COSTS, shape, orders=TierOrders(order, None))


def closed(lru: float, reached: float, optimum: float) -> float | None:
    """Share of the gap between LRU and the optimum; None if there is none worth the name."""
    gap = lru - optimum
    return None if abs(gap) < 0.005 else (lru - reached) / gap


@dataclass(frozen=True, slots=True)
class Quiet:
    """Misses per request under each policy, and under the optimum: of the slots, and of memory."""

    slots: Mapping[EvictionPolicy, float]
    memory: Mapping[EvictionPolicy, float]
    best_slots: float
    best_memory: float


def compare_quiet(
    used: Sequence[int],
    seed: int,
    shape: Shape = SHAPE,
    policies: Sequence[EvictionPolicy] = tuple(EvictionPolicy),
) -> Quiet:
    trace = arrivals(used, QUIET, seed)
    runs = {policy: served_by(policy, trace, shape) for policy in policies}
    best = served_by_oracle(trace, shape)
    return Quiet(
        slots={policy: 1 - run.slot_hit_ratio for policy, run in runs.items()},
        memory={policy: 1 - run.memory_hit_ratio for policy, run in runs.items()},
        best_slots=1 - best.slot_hit_ratio,
        best_memory=1 - best.memory_hit_ratio,
    )


@dataclass(frozen=True, slots=True)
class Busy:
    """Loads from disk per request. `in_order`: of LRU without a queue, each request in its turn;
    `best_in_order`: of the optimum for that; `by_queue`: of a clairvoyant for that which sees only
    what waits, as long as it waits here. `by_frequencies`: of ours with an order that knows how
    often each adapter is asked for.
    """

    in_order: float
    by_queue: float
    best_in_order: float
    ours: Mapping[EvictionPolicy, float]
    by_frequencies: float
    oracle: float
    activations: Mapping[EvictionPolicy, float]
    slots_in_order: float
    best_slots_in_order: float
    mean_wait_seconds: float

    @property
    def held_by_queue(self) -> float | None:
        """The share of the gap that what waits is enough to close; None if there is no gap."""
        return closed(self.in_order, self.by_queue, self.best_in_order)


def come_when_served(run: Replayed) -> list[int]:
    """For each request, how many have come until it, and all before it, have their slots."""
    times, latest, counts = [each.arrived_at for each in run.requests], 0.0, []
    for request in run.requests:
        latest = max(latest, request.arrived_at, request.granted_at or 0.0)
        counts.append(bisect_right(times, latest))
    return counts


def compare_busy(
    used: Sequence[int],
    seed: int,
    shape: Shape = SHAPE,
    policies: Sequence[EvictionPolicy] = (EvictionPolicy.LRU, EvictionPolicy.ADAPTIVE),
) -> Busy:
    trace = arrivals(used, BUSY, seed)
    runs = {policy: served_by(policy, trace, shape) for policy in policies}
    last = next(reversed(runs.values()))
    waits = last.waits
    return Busy(
        in_order=misses(used, shape.host_capacity, LruOrder()) / len(used),
        by_queue=misses_of_known(used, come_when_served(last), shape.host_capacity) / len(used),
        best_in_order=least_misses(used, shape.host_capacity) / len(used),
        ours={policy: run.loads / len(used) for policy, run in runs.items()},
        by_frequencies=served_by_frequencies(trace, shape).loads / len(used),
        oracle=served_by_oracle(trace, shape).loads / len(used),
        activations={policy: run.activations / len(used) for policy, run in runs.items()},
        slots_in_order=misses(used, shape.slots, LruOrder()) / len(used),
        best_slots_in_order=least_misses(used, shape.slots) / len(used),
        mean_wait_seconds=sum(waits) / len(waits),
    )
