"""Prefetched adapters: their first request is expected for a while, and they stay that long."""

import random

import pytest

from engine.policy.decisions import Grant
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.policy import CachePolicy
from engine.types import EvictionPolicy, VersionId
from tests.support.cache.settled_policy import settle

SLOTS, PLACES = 2, 8
EXPECTED = PLACES // 2
"""At a time; the other half is for what is asked for now, as when a server has loaded again what it
had before it was restarted.
"""
PREFETCHED = VersionId(999)


class Cache:
    """Serves requests by Zipf's law, one after the other."""

    def __init__(self, policy: EvictionPolicy) -> None:
        orders = create_orders(policy)
        self.policy = CachePolicy(
            slots=SLOTS,
            host_capacity=PLACES,
            eviction_order=orders.host,
            slot_order=orders.slots,
        )
        self._chance = random.Random(1)
        self.waited = 0

    def ask(self, version: VersionId) -> None:
        if not self.policy.try_lease(version):
            self.waited += 1
            self.policy.arrive(self.waited, version)
            granted = [each for each in settle(self.policy) if isinstance(each, Grant)]
            assert [each.version for each in granted] == [version]
        self.policy.release(version)
        settle(self.policy)
        self.policy.check()

    def ask_for_others(self, requests: int) -> None:
        for _ in range(requests):
            self.ask(VersionId(1 + min(int(self._chance.expovariate(0.12)), 60)))

    def prefetch(self) -> None:
        self.policy.prefetch(PREFETCHED)
        settle(self.policy)
        assert self.policy.is_held(PREFETCHED)

    def waits_until_it_left(self) -> int:
        """Requests that waited until then; it may not stay for 500."""
        before = self.waited
        for _ in range(500):
            self.ask_for_others(1)
            if not self.policy.is_held(PREFETCHED):
                return self.waited - before
        raise AssertionError("it was never evicted")


@pytest.fixture(params=[EvictionPolicy.ADAPTIVE, EvictionPolicy.LOOK_AHEAD])
def cache(request: pytest.FixtureRequest) -> Cache:
    """Warm: the default ranks by counts by then, of which one that is prefetched has none."""
    cache = Cache(request.param)
    cache.ask_for_others(3000)
    return cache


def test_it_stays_while_half_as_many_others_wait_as_host_memory_has_places(cache: Cache) -> None:
    cache.prefetch()
    assert cache.waits_until_it_left() >= EXPECTED


def test_one_that_is_prefetched_again_stays_again(cache: Cache) -> None:
    cache.prefetch()
    before = cache.waited
    while cache.waited < before + EXPECTED - 1:
        cache.ask_for_others(1)
    cache.prefetch()
    assert cache.waits_until_it_left() >= EXPECTED


def test_once_a_request_came_it_is_ranked_as_any_other(cache: Cache) -> None:
    """Of what is expected nothing is left then, nor later."""
    cache.prefetch()
    cache.ask(PREFETCHED)
    assert cache.policy.foresight.next_use(PREFETCHED) is None
    cache.waits_until_it_left()


def test_one_that_is_in_a_slot_is_not_expected_once_a_request_was_served_from_there(
    cache: Cache,
) -> None:
    cache.ask(PREFETCHED)
    cache.prefetch()
    waited = cache.waited
    cache.ask(PREFETCHED)
    assert cache.waited == waited, "it was leased immediately"
    assert cache.policy.foresight.next_use(PREFETCHED) is None


def test_one_that_a_request_waits_for_already_is_not_expected_besides(cache: Cache) -> None:
    cache.policy.arrive(0, PREFETCHED)
    cache.policy.prefetch(PREFETCHED)
    settle(cache.policy)
    cache.policy.release(PREFETCHED)
    assert cache.policy.foresight.next_use(PREFETCHED) is None


def test_one_that_no_request_comes_for_is_not_expected_for_ever(cache: Cache) -> None:
    cache.prefetch()
    assert cache.policy.foresight.next_use(PREFETCHED) is not None
    cache.waits_until_it_left()
    assert cache.policy.foresight.next_use(PREFETCHED) is None


def test_of_many_that_are_prefetched_half_as_many_are_expected_as_host_memory_has_places() -> None:
    """As when all adapters are loaded at the start: the last ones are in memory."""
    policy = Cache(EvictionPolicy.ADAPTIVE).policy
    for number in range(1, 10 * PLACES):
        policy.prefetch(VersionId(number))
    expected = [n for n in range(10 * PLACES) if policy.foresight.next_use(VersionId(n))]
    assert expected == list(range(10 * PLACES - EXPECTED, 10 * PLACES))
