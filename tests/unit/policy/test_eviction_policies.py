"""Each shipped eviction policy against a plain model of it: dictionaries, sums, full sorts."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.policy.decisions import Activate, Commit, StartLoad
from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.eviction_orders.cost import CostOrder
from engine.policy.eviction_orders.lfu import HALF_LIFE, LfuOrder
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.eviction_orders.s3_fifo import S3FifoOrder
from engine.policy.policy import CachePolicy
from engine.types import EvictionPolicy, VersionId

A, B, C, D = (VersionId(n) for n in (1, 2, 3, 4))
USES = st.lists(st.integers(1, 6).map(VersionId), max_size=80)
PLACES = st.integers(1, 4)


def serve(order: EvictionOrder, used: list[VersionId], places: int) -> list[VersionId]:
    """Every request needs its adapter in one of so many places. Returns the victims."""
    inside, victims = set[VersionId](), list[VersionId]()
    for version in used:
        if version not in inside:
            if len(inside) == places:
                victims.append(next(order.in_order()))
                order.remove(victims[-1])
                inside.remove(victims[-1])
            order.insert(version)
            inside.add(version)
        order.touch(version, granted=True)
        order.touch(version, granted=False)
    return victims


def hit_ratio(order: EvictionOrder, used: list[VersionId], places: int) -> float:
    cold = min(places, len(set(used)))
    return 1 - (len(serve(order, used, places)) + cold) / len(used)


@given(used=USES, places=PLACES)
def test_lfu_evicts_the_smallest_sum_of_decayed_uses(used: list[VersionId], places: int) -> None:
    """Its scores are logarithms; the model adds up the uses themselves."""
    order, inside = LfuOrder(), dict[VersionId, int]()
    uses, now = defaultdict[VersionId, list[float]](list), 0.0
    for number, version in enumerate(used):
        if version not in inside:
            if len(inside) == places:
                sums = {v: sum(2.0 ** (at - now) for at in uses[v]) for v in inside}
                victim = next(order.in_order())
                assert sums[victim] <= min(sums.values()) * (1 + 1e-9)
                order.remove(victim)
                del inside[victim]
            order.insert(version)
        inside[version] = number
        now += 1 / (HALF_LIFE * len(inside))
        order.touch(version, granted=True)
        uses[version].append(now)


@given(used=USES, places=PLACES)
def test_without_costs_and_known_uses_two_policies_are_lru(
    used: list[VersionId], places: int
) -> None:
    victims = serve(LruOrder(), used, places)
    assert serve(LookAheadOrder(), used, places) == victims
    assert serve(CostOrder(), used, places) == victims


@given(
    last_uses=st.permutations([A, B, C, D]),
    known=st.dictionaries(st.sampled_from([A, B, C, D]), st.integers(1, 100)),
)
@pytest.mark.parametrize("new_order", [LookAheadOrder, AdaptiveOrder])
def test_the_farthest_known_use_leaves_first_after_those_without_one(
    new_order: type[LookAheadOrder] | type[AdaptiveOrder],
    last_uses: list[VersionId],
    known: dict[VersionId, int],
) -> None:
    order = new_order()
    for version in last_uses:
        order.insert(version)
        order.touch(version, granted=True)
    for version, use in known.items():
        order.foresee(version, use)
    farthest = sorted(known, key=lambda v: (-known[v], last_uses.index(v)))
    unknown = [v for v in last_uses if v not in known]
    assert list(order.in_order()) == unknown + farthest
    for version in known:
        order.foresee(version, None)
    assert list(order.in_order()) == last_uses


def test_cost_keeps_what_is_slow_to_load_until_it_has_aged() -> None:
    order = CostOrder()
    for version, seconds in ((A, 1.0), (B, 0.1), (C, 0.1)):
        order.learn_cost(version, 100, seconds)
        order.insert(version)
    assert list(order.in_order()) == [B, C, A]
    for n in range(4, 60):  # the cheap ones replace each other, and the floor rises with each
        victim = next(order.in_order())
        if victim == A:
            break
        order.remove(victim)
        order.learn_cost(VersionId(n), 100, 0.1)
        order.insert(VersionId(n))
    assert victim == A
    assert n > 10


def test_cost_per_byte_evicts_the_large_one_of_two_that_load_as_fast() -> None:
    for per_byte, first in ((True, B), (False, A)):
        order = CostOrder(per_byte=per_byte)
        for version, size in ((A, 10), (B, 1000)):
            order.learn_cost(version, size, 0.5)
            order.insert(version)
        assert next(order.in_order()) == first


def test_s3_fifo_keeps_what_comes_back_from_what_is_asked_for_once() -> None:
    chance = random.Random(7)
    popular = [VersionId(chance.randrange(1, 7)) for _ in range(4000)]
    used = [v for n, each in enumerate(popular) for v in (each, VersionId(100 + n))]
    kept, lru = hit_ratio(S3FifoOrder(), used, 8), hit_ratio(LruOrder(), used, 8)
    assert kept > lru + 0.08


# ---- adaptive -------------------------------------------------------------------------------


def independent(requests: int) -> list[VersionId]:
    """Some adapters are always used more than others: frequency wins."""
    chance = random.Random(5)
    return [VersionId(1 + int(chance.paretovariate(0.6)) % 60) for _ in range(requests)]


def in_sessions(requests: int) -> list[VersionId]:
    """Each adapter is used for a while and never again: recency wins."""
    chance = random.Random(6)
    return [VersionId(1 + n // 12 + chance.randrange(4)) for n in range(requests)]


def test_adaptive_is_as_good_as_the_better_of_recency_and_frequency() -> None:
    for used, better in ((independent(4000), LfuOrder), (in_sessions(4000), LruOrder)):
        ratios = {new: hit_ratio(new(), used, 8) for new in (LruOrder, LfuOrder, AdaptiveOrder)}
        assert max(ratios, key=lambda new: ratios[new]) in (better, AdaptiveOrder)
        assert abs(ratios[LruOrder] - ratios[LfuOrder]) > 0.03, "they differ"
        assert ratios[AdaptiveOrder] > max(ratios.values()) - 0.005


def test_adaptive_follows_a_workload_that_changes() -> None:
    used = [*independent(3000), *in_sessions(3000), *independent(3000)]
    best = hit_ratio(LfuOrder(), used[:3000], 8) + hit_ratio(LruOrder(), used[3000:6000], 8)
    best += hit_ratio(LfuOrder(), used[6000:], 8)
    assert hit_ratio(AdaptiveOrder(), used, 8) > best / 3 - 0.03


def test_the_cache_follows_when_adaptive_changes_its_order() -> None:
    """A change of the ranking changes the keys of all: victims are taken from the new order."""
    orders, changes = create_orders(EvictionPolicy.ADAPTIVE), list[int]()
    policy = CachePolicy(
        slots=8, host_capacity=16, eviction_order=orders.host, slot_order=orders.slots
    )
    refresh_all = policy._index._refresh_all

    def on_reorder() -> None:
        changes.append(1)
        refresh_all()

    orders.host.on_reorder(on_reorder)
    for ticket, version in enumerate([*independent(1500), *in_sessions(2500)], start=1):
        policy.arrive(ticket, version)
        while decisions := policy.advance():
            for decision in decisions:
                match decision:
                    case StartLoad(loaded):
                        policy.on_loaded(loaded)
                    case Commit(moved) | Activate(moved):
                        policy.on_moved(moved)
        policy.release(version)
        policy.advance()
        if ticket % 64 < 2:
            policy.check()
    assert len(changes) >= 2, "to frequency, and back to recency"
