"""Eviction policies over traces: a short form of `python -m benchmarks.policies`."""

import random

import pytest

from benchmarks.policies.comparison import COSTS, arrivals, closed, compare_busy, compare_quiet
from benchmarks.policies.in_order import misses, misses_of_known
from benchmarks.policies.share_in_time import RATE, REQUESTS, TOKENS, Case, measure
from benchmarks.policies.traces import GENERATORS, generate, read_trace
from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.base import KeyedOrder
from engine.policy.eviction_orders.lfu import LfuOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.optimum import least_misses
from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.types import EvictionPolicy, VersionId

ADAPTIVE, LRU = EvictionPolicy.ADAPTIVE, EvictionPolicy.LRU
HALF_A_POINT = 0.005


@pytest.mark.parametrize("name", GENERATORS)
def test_the_default_is_never_half_a_point_below_lru(name: str) -> None:
    used = generate(name, 2500, seed=2)
    for places in (8, 32):
        more = misses(used, places, AdaptiveOrder()) - misses(used, places, LruOrder())
        assert more / len(used) <= HALF_A_POINT
        assert least_misses(used, places) <= misses(used, places, AdaptiveOrder())


@pytest.mark.parametrize(
    ("name", "least"), [("Zipf 1.0, 512", 0.5), ("loop of 12", 0.8), ("flash crowds", 0.3)]
)
def test_the_default_closes_the_gap_to_the_optimum_without_a_queue(name: str, least: float) -> None:
    quiet = compare_quiet(generate(name, 2500, seed=2), seed=2, policies=(LRU, ADAPTIVE))
    share = closed(quiet.slots[LRU], quiet.slots[ADAPTIVE], quiet.best_slots)
    assert share is not None
    assert share > least


@pytest.mark.parametrize("name", ["uniform, 200", "Zipf 1.0, 144", "many tenants", "pipelines"])
def test_where_a_queue_stands_the_gap_to_the_optimum_in_turn_is_closed(name: str) -> None:
    busy = compare_busy(generate(name, 1500, seed=2), seed=2)
    assert busy.mean_wait_seconds > 0.5, "there is a queue"
    share = closed(busy.slots_in_order, busy.activations[ADAPTIVE], busy.best_slots_in_order)
    assert share is not None
    assert share > 0.7


@pytest.mark.parametrize(("name", "seed"), [("many sessions", 2), ("shifting Zipf", 3)])
def test_where_a_queue_stands_the_default_loads_no_more_than_lru(name: str, seed: int) -> None:
    """Its shadows know that what is wanted stays, whatever the order."""
    busy = compare_busy(generate(name, 3000, seed), seed)
    assert busy.mean_wait_seconds > 1, "there is a queue"
    assert busy.ours[ADAPTIVE] - busy.ours[LRU] <= HALF_A_POINT


@pytest.mark.parametrize("name", ["Zipf 1.0, 144", "many sessions", "many tenants", "mixed"])
def test_where_a_queue_stands_most_of_the_gap_to_the_optimum_is_closed(name: str) -> None:
    busy = compare_busy(generate(name, 2500, seed=1), seed=1)
    share = closed(busy.in_order, busy.ours[ADAPTIVE], busy.best_in_order)
    assert share is not None
    assert share > 0.7


@pytest.mark.parametrize("name", ["scans", "fast shifting Zipf", "pipelines", "tenants"])
def test_most_of_what_the_queue_holds_of_the_gap_is_closed(name: str) -> None:
    busy = compare_busy(generate(name, 3000, seed=1), seed=1)
    held = busy.held_by_queue
    share = closed(busy.in_order, busy.ours[ADAPTIVE], busy.best_in_order)
    assert held is not None
    assert share is not None
    assert busy.best_in_order <= busy.by_queue <= busy.in_order
    assert (held > 0.9) == (name == "pipelines")
    assert share > 0.7 * held


@pytest.mark.parametrize("half_life", [1, 2, 4, 16, 64])
def test_no_count_of_uses_is_better_than_recency_where_ranks_shift_fast(half_life: int) -> None:
    used = generate("fast shifting Zipf", 3000, seed=1)
    assert misses(used, 32, LfuOrder(half_life)) > misses(used, 32, LruOrder())


class ShiftingLaw(KeyedOrder):
    """Knows how likely each adapter of *fast shifting Zipf* is at each moment."""

    ADAPTERS, SKEW, EVERY = 256, 1.2, 10

    def __init__(self) -> None:
        super().__init__()
        self._served = 0

    def insert(self, version: VersionId) -> None:
        self._put(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._served += granted
        if granted and self._served % self.EVERY == 0:
            for each in list(self._keys):
                self._put(each)
        self._put(version)

    def _put(self, version: VersionId) -> None:
        rank = (version - 1 - self._served // self.EVERY) % self.ADAPTERS or self.ADAPTERS
        self.put(version, (1 / rank**self.SKEW, version))


def test_who_knows_the_law_of_ranks_that_shift_fast_is_near_to_the_optimum() -> None:
    """The past does not tell: an adapter becomes ever hotter there, and then cold at once."""
    used = generate("fast shifting Zipf", 3000, seed=1)
    lru, law = misses(used, 32, LruOrder()), misses(used, 32, ShiftingLaw())
    share = closed(lru / 3000, law / 3000, least_misses(used, 32) / 3000)
    assert share is not None
    assert 0.8 < share < 0.85


def test_counts_that_forget_later_hardly_know_more_of_scans() -> None:
    """Less than half a point between a half-life of 16 and one that no trace is long enough for."""
    used = generate("scans", 3000, seed=1)
    usual, latest = (misses(used, 32, LfuOrder(each)) for each in (16, 256))
    assert 0 <= usual - latest <= HALF_A_POINT * len(used)


def test_a_clairvoyant_of_what_waits_is_between_lru_and_the_optimum() -> None:
    for name in GENERATORS:
        used = generate(name, 400, seed=1)
        none, all_ = range(1, len(used) + 1), [len(used)] * len(used)
        assert misses_of_known(used, none, 8) == misses(used, 8, LruOrder())
        assert misses_of_known(used, all_, 8) == least_misses(used, 8)


@pytest.mark.parametrize("seed", [1, 2])
def test_where_a_queue_stands_twice_as_many_come_in_time_if_half_of_the_slots_drain(
    seed: int,
) -> None:
    """And the slowest come sooner than if all may drain at a time."""
    trace = arrivals(generate("Zipf 1.0, 144", REQUESTS, seed), (RATE, TOKENS), seed)
    any_number, slowest, _ = measure(Case("all", all_drain=True), trace)
    shipped, slowest_shipped, _ = measure(Case("shipped"), trace)
    assert shipped > 2 * any_number
    assert slowest_shipped < 0.8 * slowest


def test_a_burst_over_busy_slots_does_not_wait_for_loads_that_could_wait() -> None:
    """Hot adapters drain for what is in host memory: with eight ready at a time, 4.5 s."""
    chance, slots, cold = random.Random(1), 32, 25
    trace = [Arrival(5.0, VersionId(1000 + n), 64) for n in range(cold)]
    for hot in range(1, slots + 1):
        at = 0.0
        while (at := at + chance.expovariate(6)) < 15:
            trace.append(Arrival(at, VersionId(hot), 1 + int(chance.expovariate(1 / 64))))
    trace.sort(key=lambda each: each.at)
    done = replay(trace, COSTS, Shape(slots=slots, host_capacity=4 * slots))
    waits = [
        r.granted_at - r.arrived_at for r in done.requests if r.adapter >= 1000 and r.granted_at
    ]
    assert len(waits) == cold
    assert sum(waits) / cold < 4


def test_the_optimum_is_at_most_what_exhaustive_search_finds() -> None:
    """Belady's, against all choices of victims, for a short trace over two places."""

    def least(rest: tuple[int, ...], inside: frozenset[int]) -> int:
        if not rest:
            return 0
        first, later = rest[0], rest[1:]
        if first in inside:
            return least(later, inside)
        if len(inside) < 2:
            return 1 + least(later, inside | {first})
        return 1 + min(least(later, inside - {victim} | {first}) for victim in inside)

    for seed in range(5):
        used = [each % 4 for each in generate("uniform, 200", 11, seed)]
        assert least_misses(used, 2) == least(tuple(used), frozenset())


def test_a_trace_file_has_an_adapter_a_line() -> None:
    assert read_trace("# from somewhere\na\nb\n\na\n") == [1, 2, 1]


def test_a_trace_is_the_same_for_the_same_seed_and_no_other() -> None:
    for name in GENERATORS:
        assert generate(name, 300, 1) == generate(name, 300, 1)
        if name != "loop of 12":
            assert generate(name, 300, 1) != generate(name, 300, 2)
