"""Shadows: hit ratios of other policies on the live lookups, the mend, and what they cost."""

import itertools
import random
from collections.abc import Iterable

import pytest

from benchmarks.policies.in_order import misses
from engine.errors import EngineUnavailable
from engine.events import EngineLost, LookedUp, MovedIn
from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.optimum import least_misses
from engine.telemetry.shadows import CANDIDATE, LRU, OPTIMUM, WINDOW, Shadows, TierRegret
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionPolicy,
    Tier,
    Transition,
    VersionId,
)
from tests.support.counted_work import counted_work

LOOKUP_CALLS = 30  # it makes 12


def version(number: int) -> AdapterVersion:
    return AdapterVersion(VersionId(number), f"a{number}", 1, "0" * 64, f"/a{number}", 8, 100)


def shadows_of(
    used: Iterable[int], outcome: CacheOutcome, candidate: EvictionPolicy | None = None
) -> Shadows:
    """Of four slots and eight places in host memory."""
    made = Shadows(slots=4, host_capacity=8, policy=EvictionPolicy.ADAPTIVE, candidate=candidate)
    for number in used:
        made.on_event(LookedUp(version(number), outcome, None, 0.0))
    return made


def regrets(shadows: Shadows) -> dict[Tier, TierRegret]:
    return {window.tier: window.regret() for window in shadows.windows()}


def skewed(requests: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [1 + int(chance.paretovariate(0.7)) % 40 for _ in range(requests)]


def test_each_shadow_hits_what_its_policy_alone_would_have_hit() -> None:
    used = skewed(WINDOW)
    found = regrets(shadows_of(used, CacheOutcome.MISS, EvictionPolicy.ADAPTIVE))
    for tier, places in ((Tier.GPU, 4), (Tier.HOST, 8)):
        ratios = found[tier].ratios
        assert ratios[LRU] == pytest.approx(1 - misses(used, places, LruOrder()) / WINDOW)
        assert ratios[OPTIMUM] == pytest.approx(1 - least_misses(used, places) / WINDOW)
        candidate = 1 - misses(used, places, AdaptiveOrder()) / WINDOW
        assert ratios[CANDIDATE] == pytest.approx(candidate)
        assert found[tier].live == 0
        assert found[tier].regret(LRU) == ratios[LRU]


def test_only_the_last_thousand_lookups_count() -> None:
    shadows = shadows_of([*skewed(WINDOW), *([1] * WINDOW)], CacheOutcome.GPU_HIT)
    found = regrets(shadows)
    assert found[Tier.GPU].ratios[LRU] >= 1 - 1 / WINDOW
    assert found[Tier.GPU].live == 1
    assert found[Tier.GPU].places_for_half is None


def test_where_adapters_take_turns_it_says_how_many_slots_would_do() -> None:
    turns = list(itertools.islice(itertools.cycle(range(1, 7)), 600))  # six over four slots
    shadows = shadows_of(turns, CacheOutcome.HOST_HIT)
    found = regrets(shadows)
    assert found[Tier.GPU].ratios[LRU] == 0
    assert found[Tier.GPU].places_for_half == 6
    assert found[Tier.GPU].gain == pytest.approx(594 / 600)
    mend = shadows.describe_mend(list(found.values()))
    assert mend == (
        "With --max-loras 6, 99% more of the requests would find their adapter in a slot."
    )
    text = shadows.describe_last_miss(VersionId(3))
    assert text == "With 6 slots its last miss would have been a hit."


def test_a_candidate_that_would_hit_more_is_the_cheapest_mend() -> None:
    turns = list(itertools.islice(itertools.cycle(range(1, 7)), 4000))
    shadows = shadows_of(turns, CacheOutcome.HOST_HIT, EvictionPolicy.ADAPTIVE)
    mend = shadows.describe_mend(list(regrets(shadows).values()))
    assert mend.startswith("With --eviction-policy adaptive, ") or "--max-loras 6" in mend
    kept = [n for n in range(1, 7) if "adaptive would" in shadows.describe_last_miss(VersionId(n))]
    assert kept, "the most recently used first keeps most of them"


def test_a_candidate_by_cost_knows_what_loads_took() -> None:
    shadows = shadows_of((), CacheOutcome.MISS, EvictionPolicy.COST)
    for number in range(1, 50):
        shadows.on_event(LookedUp(version(1), CacheOutcome.MISS, None, 0.0))
        shadows.on_event(MovedIn(version(1), Transition.DISK_TO_HOST, 100.0))
        for other in range(10 * number, 10 * number + 10):
            shadows.on_event(LookedUp(version(other), CacheOutcome.MISS, None, 0.0))
            shadows.on_event(MovedIn(version(other), Transition.DISK_TO_HOST, 0.1))
    found = regrets(shadows)[Tier.GPU].ratios
    assert found[LRU] == 0
    assert found[CANDIDATE] > 0.05, "the one that is expensive to load stays"


def test_nothing_is_known_before_the_first_lookup_nor_of_a_new_engine() -> None:
    shadows = shadows_of([], CacheOutcome.MISS)
    assert shadows.windows() == []
    assert shadows.describe_mend([]) == shadows.describe_last_miss(VersionId(1)) == ""
    shadows = shadows_of([1, 2, 1], CacheOutcome.MISS)
    shadows.on_event(EngineLost(EngineUnavailable("died", retry_after_seconds=1)))
    assert shadows.windows() == []


def test_a_lookup_costs_a_bounded_number_of_calls() -> None:
    """With a candidate: 25 µs on the machine of docs/policy.md."""
    shadows, used = shadows_of(skewed(2000), CacheOutcome.MISS), skewed(5000, seed=2)
    events = [LookedUp(version(number), CacheOutcome.GPU_HIT, None, 0.0) for number in used]
    with counted_work(at_most=5000 * LOOKUP_CALLS):
        for event in events:
            shadows.on_event(event)
