"""Loads that can wait: not before it is nearly an adapter's turn, so that one load serves more."""

from engine.cache.drains import Drains
from engine.policy.decisions import Decision, Grant, StartLoad
from engine.policy.policy import CachePolicy
from engine.policy.ready_ahead import SHIPPED
from engine.types import AdmissionLimits, VersionId
from tests.support.cache.settled_policy import settle

HOT, COLD = VersionId(1), VersionId(99)
READY = [VersionId(n) for n in range(2, 2 + SHIPPED.most_ready)]


def started(decisions: list[Decision]) -> list[VersionId]:
    return [each.version for each in decisions if isinstance(each, StartLoad)]


def busy_policy(slots: int = 1) -> CachePolicy:
    """All slots are leased; as many as are ever ready wait for them in host memory."""
    policy = CachePolicy(slots=slots, host_capacity=200)
    for version in range(1000, 1000 + slots - 1):
        policy.arrive(version, VersionId(version))
        settle(policy)
    policy.arrive(1, HOT)
    settle(policy)
    for ticket, version in enumerate(READY, start=2):
        policy.arrive(ticket, version)
        settle(policy)
    return policy


def standing_queue() -> tuple[CachePolicy, VersionId, list[VersionId]]:
    """With what is in the slot, and those that wait, the oldest first."""
    policy = busy_policy()
    in_slot, queue = HOT, list(READY)
    for number in range(200, 300):
        policy.arrive(number, VersionId(number))
        queue.append(VersionId(number))
        settle(policy)
        policy.release(in_slot)
        settle(policy)
        in_slot = queue.pop(0)
    return policy, in_slot, queue


def test_a_load_waits_while_enough_older_ones_are_ready() -> None:
    policy = busy_policy()
    for ticket in (100, 101, 102):
        policy.arrive(ticket, COLD)
        assert settle(policy) == [], "its turn is far away"
    decided: list[Decision] = []
    for version in (HOT, *READY):
        policy.release(version)
        decided += settle(policy)
    assert started(decided).count(COLD) == 1
    granted = [each.ticket for each in decided if isinstance(each, Grant)]
    assert granted[-3:] == [100, 101, 102], "one load for all who came meanwhile"


def test_what_came_before_those_that_are_ready_is_loaded_at_once() -> None:
    policy = CachePolicy(slots=1, host_capacity=40)
    for version in READY:
        policy.prefetch(version)
        settle(policy)
    policy.arrive(1, HOT)
    settle(policy)
    policy.arrive(2, COLD)
    for ticket, version in enumerate(READY, start=3):
        policy.arrive(ticket, version)
    assert StartLoad(COLD) in policy.advance()


def test_an_operators_prefetch_does_not_wait_with_it() -> None:
    policy = busy_policy()
    policy.arrive(100, COLD)
    policy.prefetch(wanted := VersionId(98))
    assert started(settle(policy)) == [wanted]


def test_after_a_pause_as_many_are_ready_as_there_are_slots() -> None:
    """They may all get free together: hot adapters drain only for what is in host memory."""
    policy = busy_policy(slots=32)
    burst = [VersionId(n) for n in range(100, 164)]
    for version in burst:
        policy.arrive(version, version)
    ready = len(READY) + len(started(settle(policy)))
    assert 24 <= ready <= 32


def test_where_a_queue_stands_only_a_few_are_ready() -> None:
    policy, _, queue = standing_queue()
    loaded = [each for each in queue if policy.is_held(each)]
    assert loaded == queue[: len(loaded)], "the oldest"
    assert len(loaded) == SHIPPED.least_ready


def test_what_has_waited_too_long_is_loaded_as_after_a_pause() -> None:
    policy, _, queue = standing_queue()
    policy.wait_queue.mark_late(int(queue[4]))
    assert started(settle(policy)) == queue[SHIPPED.least_ready : 5]


def test_that_it_has_waited_too_long_is_found_by_the_periodic_check() -> None:
    """Half as long again as the longest wait."""
    policy, _, queue = standing_queue()
    arrivals = [(int(each), 6.9 if place < 5 else 7.1) for place, each in enumerate(queue)]
    limits = AdmissionLimits(max_slot_wait_seconds=2.0)
    drains = Drains(policy, lambda _: arrivals, lambda hot, cold: None, lambda: 10.0, limits)
    drains.check()
    assert started(settle(policy)) == queue[SHIPPED.least_ready : 5]
