"""Share of first tokens in time: more adapters are wanted at a time than there are slots.

    python -m benchmarks.policies.share_in_time

40 requests a second by Zipf 1.0 over 144 adapters, 64 tokens each, over 16 slots: see
docs/policy.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from adaptry.sizing.prediction import quantile
from benchmarks.policies.comparison import COSTS, arrivals
from benchmarks.policies.traces import generate
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.ready_ahead import SHIPPED, Batching
from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.types import AdmissionLimits, EvictionPolicy

REQUESTS, RATE, TOKENS = 2400, 40.0, 64
SLOTS, HOST_PLACES = 16, 64
STEP_SECONDS = 0.0115
GOAL_SECONDS = 0.5
_ANY_NUMBER = 10**6


@dataclass(frozen=True, slots=True)
class Case:
    """`at_arrival`: loads never wait for more requests. `all_drain`: any number of slots at a time.
    `slot_wait_seconds`: large: no drains."""

    name: str
    policy: EvictionPolicy = EvictionPolicy.ADAPTIVE
    at_arrival: bool = False
    all_drain: bool = False
    slot_wait_seconds: float = 2.0
    slots: int = SLOTS


CASES = (
    Case("LRU, loads at arrival", EvictionPolicy.LRU, at_arrival=True, all_drain=True),
    Case("adaptive, loads at arrival", at_arrival=True, all_drain=True),
    Case("adaptive, loads that can wait", all_drain=True),
    Case("the same, half of the slots drain at a time (as shipped)"),
    Case("the same, `ADAPTRY_MAX_SLOT_WAIT_SECONDS=8`: hardly any drains", slot_wait_seconds=8),
    Case("as shipped, 20 slots", slots=20),
    Case("as shipped, 24 slots", slots=24),
)


def measure(case: Case, trace: list[Arrival]) -> tuple[float, float, float]:
    """The share in time, the 99th percentile of the first token, and loads per request."""
    batching = Batching(_ANY_NUMBER, _ANY_NUMBER) if case.at_arrival else SHIPPED
    batching = replace(batching, slots_per_drain=1) if case.all_drain else batching
    limits = AdmissionLimits(max_slot_wait_seconds=case.slot_wait_seconds)
    shape = Shape(case.slots, HOST_PLACES, limits=limits, batching=batching)
    costs = replace(COSTS, step_seconds=STEP_SECONDS)
    done = replay(trace, costs, shape, orders=create_orders(case.policy))
    in_time = sum(each <= GOAL_SECONDS for each in done.first_tokens)
    count = len(done.requests)
    return in_time / count, quantile(done.first_tokens, 0.99), done.loads / count


def rows() -> Iterator[str]:
    trace = arrivals(generate("Zipf 1.0, 144", REQUESTS, 1), (RATE, TOKENS), 1)
    for case in CASES:
        share, slowest, loads = measure(case, trace)
        yield f"| {case.name} | {share:.2f} | {slowest:.1f} s | {loads:.3f} |"


if __name__ == "__main__":
    print("| | share in time | first token p99 | loads per request |\n|---|---|---|---|")
    for row in rows():
        print(row, flush=True)
