"""Planning cost, in operations: neither waiting adapters nor host places make a plan longer."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from benchmarks.planning.__main__ import Herd
from engine.policy.decisions import StartLoad
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.policy import CachePolicy
from engine.types import EvictionPolicy, VersionId
from tests.support.cache.settled_policy import settle

POLICY = Path(__file__).parents[3] / "engine" / "policy"


class CountingOrder(LruOrder):
    """Counts the versions that are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def key(self, version: VersionId) -> EvictionKey:
        self.looks += 1
        return super().key(version)

    def in_order(self) -> Iterator[VersionId]:
        for version in super().in_order():
            self.looks += 1
            yield version


def looks_per_event(*, host_places: int, waiting: int) -> int:
    """The most that one arrival, release or idle plan looks at while that many adapters wait."""
    order, slots = CountingOrder(), 8
    policy = CachePolicy(slots=slots, host_capacity=host_places, eviction_order=order)
    for n in range(1, host_places + 1):  # all host places are taken
        policy.prefetch(VersionId(n))
        settle(policy)
    for n in range(1, slots + waiting + 1):  # the first ones lease every slot
        policy.arrive(n, VersionId(n))
        settle(policy)
    leased = list(range(1, slots + 1))
    most = 0
    for n in range(1, 9):
        order.looks = 0
        policy.release(VersionId(leased.pop(0)))
        settle(policy)  # the oldest waiter gets the slot
        most, order.looks = max(most, order.looks), 0
        leased.append(slots + n)
        assert policy.lease_count(VersionId(slots + n)) == 1
        policy.arrive(10_000 + n, VersionId(10_000 + n))
        settle(policy)
        policy.advance()
        most = max(most, order.looks)
    policy.check()
    return most


@pytest.mark.parametrize(("host_places", "waiting"), [(16, 400), (1024, 16), (1024, 400)])
def test_an_event_looks_at_no_more_versions_with_more_waiting_adapters_or_host_places(
    host_places: int, waiting: int
) -> None:
    assert looks_per_event(host_places=host_places, waiting=waiting) <= 16


def test_an_eviction_looks_at_what_leaves_and_not_at_the_rest_of_the_host_tier() -> None:
    order = CountingOrder()
    policy = CachePolicy(slots=1, host_capacity=512, eviction_order=order)
    for n in range(1, 513):
        policy.prefetch(VersionId(n))
        settle(policy)
    order.looks = 0
    policy.arrive(1, VersionId(513))
    settle(policy)
    assert policy.lease_count(VersionId(513)) == 1
    assert order.looks <= 16


def test_a_load_s_cost_is_no_change_of_what_is_in_no_order_yet() -> None:
    policy, version = CachePolicy(slots=1, host_capacity=1), VersionId(1)
    changes: list[VersionId] = []
    policy.follow_changes(changes.append, lambda: None)
    policy.arrive(1, version)
    assert policy.advance() == [StartLoad(version)]
    before = len(changes)
    policy.on_loaded(version, 100, 0.5)
    assert len(changes) == before + 1, "its size"


def test_an_order_by_keys_sorts_only_for_those_who_read_it() -> None:
    order = LookAheadOrder()
    order.insert(VersionId(1))
    order.insert(VersionId(2))
    for _ in range(100):
        order.touch(VersionId(1), granted=True)
    assert len(order._index) == 0
    assert list(order.in_order()) == [2, 1]
    order.touch(VersionId(2), granted=True)
    order.remove(VersionId(1))
    assert list(order.in_order()) == [2]


@pytest.mark.parametrize(
    ("name", "most"), [(EvictionPolicy.LRU, 115), (EvictionPolicy.ADAPTIVE, 145)]
)
def test_a_request_that_waits_takes_a_bounded_number_of_calls(
    name: EvictionPolicy, most: int
) -> None:
    herd = Herd(slots=64, host_places=1024, waiting=1000, policy=name)
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(POLICY)):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        for _ in range(128):
            herd.serve_one()
    finally:
        sys.setprofile(None)
    assert most / 2 < calls.total() / 128 <= most, calls.most_common(40)
