"""The curve of places is what LRU hits when it is run with that many of them."""

import random

import pytest

from benchmarks.policies.in_order import misses
from engine.events import LookedUp
from engine.policy.eviction_orders.lru import LruOrder
from engine.telemetry.place_curve import place_curve
from engine.telemetry.shadows import WINDOW, Shadows
from engine.types import AdapterVersion, CacheOutcome, EvictionPolicy, Tier, VersionId


def shadows_of(used: list[int]) -> Shadows:
    shadows = Shadows(slots=5, host_capacity=100, policy=EvictionPolicy.ADAPTIVE)
    for number in used:
        found = AdapterVersion(VersionId(number), f"a{number}", 1, "0" * 64, "/a", 8, 100)
        shadows.on_event(LookedUp(found, CacheOutcome.MISS, None, 0.0))
    return shadows


def test_each_point_is_what_lru_hits_with_so_many_places() -> None:
    chance = random.Random(1)
    used = [1 + int(chance.paretovariate(0.7)) % 40 for _ in range(WINDOW)]
    slots, host = shadows_of(used).windows()
    assert (slots.tier, host.tier) == (Tier.GPU, Tier.HOST)
    curve = place_curve(slots)
    for point in curve:
        expected = 1 - misses(used, point.places, LruOrder()) / WINDOW
        assert point.lru == pytest.approx(expected), point.places
    sizes = [point.places for point in curve]
    assert sizes == sorted(set(sizes))
    assert {1, 2, 3, 4, 5, 6, 8} <= set(sizes), "5 are there"
    assert curve[-1].lru == max(point.lru for point in curve)
    assert place_curve(host)[-1].places == 100, "more than would hit anything more"


def test_lookups_that_never_came_again_hit_with_no_number_of_places() -> None:
    curve = place_curve(shadows_of(list(range(1, 20))).windows()[0])
    assert {point.lru for point in curve} == {0.0}
