"""Drains at a time: half of the slots where a queue stands, any number after a pause.

So too where the host tier holds what is in slots and nothing else: then adapters drain for room in
host memory.
"""

from engine.policy.policy import CachePolicy
from engine.types import VersionId
from tests.support.cache.settled_policy import settle

SLOTS = 4


def standing_queue(
    host_capacity: int = 200, max_loads: int = 2, slots: int = SLOTS
) -> tuple[CachePolicy, list[int], list[int]]:
    """Every slot is leased, and so many adapters wait that a queue stands. With those in slots, and
    those that wait; their tickets have the same numbers.
    """
    policy = CachePolicy(slots=slots, host_capacity=host_capacity, max_loads=max_loads)
    leased: list[int] = []
    waiting: list[int] = []
    for number in range(1, 120):
        policy.arrive(number, VersionId(number))
        waiting.append(number)
        settle(policy)
        if number > 2 * slots:
            policy.release(VersionId(leased.pop(0)))
            settle(policy)
        granted = [n for n in waiting if policy.wait_queue.version_of(n) is None]
        leased += granted
        waiting = [n for n in waiting if n not in granted]
    assert len(leased) == slots
    return policy, leased, waiting


def drained(policy: CachePolicy, tickets: list[int]) -> int:
    return sum(policy.drain_for(ticket) is not None for ticket in tickets)


def burst(policy: CachePolicy) -> list[int]:
    """Requests for what is in host memory only, one for each slot."""
    found = [v for v in map(VersionId, range(1, 120)) if policy.is_evictable(v)]
    tickets = list(range(1000, 1000 + SLOTS))
    for ticket, version in zip(tickets, found, strict=False):
        policy.arrive(ticket, version)
        settle(policy)
    return tickets


def test_where_a_queue_stands_half_of_the_slots_drain_at_a_time() -> None:
    policy, _, waiting = standing_queue()
    assert drained(policy, [*waiting, *burst(policy)]) == SLOTS // 2


def test_no_more_drain_for_room_in_host_memory() -> None:
    policy, _, waiting = standing_queue(host_capacity=SLOTS, max_loads=SLOTS)
    assert drained(policy, waiting) == SLOTS // 2


def test_after_a_pause_any_number_may_though_all_that_is_wanted_is_in_memory() -> None:
    """Nothing has been loaded since the queue stood."""
    policy, leased, waiting = standing_queue()
    for ticket in waiting:
        policy.cancel(ticket)
    policy.release(VersionId(leased[0]))
    settle(policy)
    policy.arrive(999, VersionId(waiting[0]))
    settle(policy)
    assert policy.wait_queue.version_of(999) is None, "it has the slot that was idle"
    assert drained(policy, burst(policy)) == SLOTS


def test_a_single_slot_drains_where_a_queue_stands_too() -> None:
    policy, _, waiting = standing_queue(slots=1)
    assert drained(policy, waiting) == 1


def test_it_is_no_pause_while_every_slot_is_leased() -> None:
    """Though no request waits at the moment."""
    policy, _, waiting = standing_queue()
    for ticket in waiting:
        policy.cancel(ticket)
    settle(policy)
    assert drained(policy, burst(policy)) == SLOTS // 2
