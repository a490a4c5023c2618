"""Shadows of a large tier: they follow a sample, choose as well as in a small one, and a few uses
at a time."""

import random
from collections.abc import Sequence

import pytest

from benchmarks.policies.in_order import misses
from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.lfu import LfuOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.eviction_orders.ranking_shadows import RankingShadow, SeenUse
from engine.policy.eviction_orders.version_sample import LEAST_PLACES, VersionSample
from engine.types import VersionId

PLACES = 256


def zipf(requests: int, adapters: int) -> list[VersionId]:
    chance = random.Random(5)
    ids = chance.sample(range(1, adapters + 1), adapters)
    weights = [1 / rank**0.9 for rank in range(1, adapters + 1)]
    return [VersionId(n) for n in chance.choices(ids, weights, k=requests)]


def in_sessions(requests: int) -> list[VersionId]:
    chance = random.Random(6)
    return [VersionId(1 + n // 4 + chance.randrange(330)) for n in range(requests)]


def in_turn(requests: int) -> list[VersionId]:
    return [VersionId(1 + n % 320) for n in range(requests)]


def test_a_sample_has_its_part_of_any_ids_and_a_smaller_one_is_part_of_a_larger_one() -> None:
    sample, before = VersionSample(), set(range(1, 32_001))
    for one_in in (1, 2, 4, 8, 16, 32):
        sample.fit_to(one_in * LEAST_PLACES)
        assert sample.part_of(one_in * LEAST_PLACES) == LEAST_PLACES
        followed = {n for n in range(1, 32_001) if sample.includes(VersionId(n))}
        assert followed <= before
        assert abs(len(followed) * one_in / 32_000 - 1) < 0.05
        before = followed


def test_a_tier_that_shrinks_a_little_keeps_its_sample() -> None:
    sample = VersionSample()
    assert sample.fit_to(4 * LEAST_PLACES)
    sample.fit_to(3 * LEAST_PLACES)
    assert sample.part_of(4 * LEAST_PLACES) == LEAST_PLACES
    sample.fit_to(LEAST_PLACES)
    assert sample.part_of(LEAST_PLACES) == LEAST_PLACES // 2
    sample.fit_to(1)
    assert sample.part_of(LEAST_PLACES) == LEAST_PLACES


@pytest.mark.parametrize("used", [zipf(16_000, 2000), in_sessions(12_000), in_turn(12_000)])
def test_adaptive_chooses_by_a_sample_as_well_as_by_all(used: Sequence[VersionId]) -> None:
    """Of these three LFU, LRU and neither of them is the best."""
    missed = {new: misses(used, PLACES, new()) for new in (LruOrder, LfuOrder, AdaptiveOrder)}
    best = min(missed[LruOrder], missed[LfuOrder])
    assert missed[AdaptiveOrder] <= best + 0.02 * len(used)
    if used[:320] == in_turn(320):
        assert missed[AdaptiveOrder] < 0.3 * len(used)


def test_shadows_of_a_large_tier_follow_few_adapters_and_see_few_uses_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    replay = RankingShadow.replay

    def noting(shadow: RankingShadow, uses: Sequence[SeenUse], places: int) -> None:
        seen.append(len(uses))
        replay(shadow, uses, places)

    monkeypatch.setattr(RankingShadow, "replay", noting)
    order = AdaptiveOrder()
    misses(zipf(8000, 4000), 1024, order)
    assert max(seen) <= 34, "the request that comes last waits for all of them"
    for shadow in order._shadows:
        assert 0 < len(shadow._ranked) + len(shadow._wanted) <= LEAST_PLACES
