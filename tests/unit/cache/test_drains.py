"""Drains over the real policy: when one that goes on is given up."""

from collections.abc import Sequence

from engine.cache.drains import Drains
from engine.policy.decisions import Ticket
from engine.policy.policy import CachePolicy
from engine.types import AdmissionLimits, Tier, VersionId
from tests.support.cache.settled_policy import settle

HOT = [VersionId(number) for number in (1, 2, 3)]
LARGE = VersionId(9)
LONGEST_SECONDS = 4 * 2.0


class World:
    """Three hot adapters fill host memory; one request waits for a large one. Each version has one
    ticket, of the same number.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.drained: list[VersionId] = []
        self.policy = CachePolicy(slots=3, host_capacity=10, host_bytes=300)
        limits = AdmissionLimits(max_slot_wait_seconds=2.0, slot_timeout_seconds=600.0)
        self.drains = Drains(self.policy, self._overdue, self._report, lambda: self.now, limits)
        for version, size_bytes in (*((each, 100) for each in HOT), (LARGE, 200)):
            self.policy.learn_size(version, size_bytes)
            self.policy.arrive(int(version), version)
            settle(self.policy)
        for version in HOT:
            self.drains.record_lease(version, object())

    def check(self, now: float) -> list[VersionId]:
        """Which ones drain since the last one."""
        self.now, self.drained = now, []
        self.drains.check()
        return sorted(self.drained)

    def _overdue(self, patience_seconds: float) -> Sequence[tuple[Ticket, float]]:
        return [(int(LARGE), 0.0)] if self.now > patience_seconds else []

    def _report(self, hot: VersionId, cold: VersionId) -> None:
        assert cold == LARGE
        self.drained.append(hot)


def test_a_further_drain_for_the_same_adapter_prolongs_none() -> None:
    """The first one's adapter has admitted no request since then."""
    world = World()
    assert world.check(1.0) == []
    began = 2.5
    assert world.check(began) == HOT[:2]
    world.policy.pin(HOT[0], Tier.GPU)  # it stays
    assert world.check(began + 2) == [HOT[2]]
    assert world.check(began + LONGEST_SECONDS - 0.1) == []
    assert world.policy.has_drains_for(LARGE)
    assert world.check(began + LONGEST_SECONDS + 0.1) == []
    assert not world.policy.has_drains_for(LARGE)


def test_the_first_drain_is_for_the_adapter_whose_last_late_request_came_first() -> None:
    often, once = VersionId(10), VersionId(11)
    policy = CachePolicy(slots=2, host_capacity=10)
    for version in (*HOT[:2], often, once):
        policy.arrive(int(version), version)
        settle(policy)
    policy.arrive(12, often)
    late = [(int(often), 0.0), (int(once), 1.0), (12, 2.0)]
    begun: list[VersionId] = []
    limits = AdmissionLimits(max_slot_wait_seconds=2.0, slot_timeout_seconds=600.0)
    drains = Drains(policy, lambda _: late, lambda _, cold: begun.append(cold), lambda: 4.0, limits)
    for version in HOT[:2]:
        drains.record_lease(version, object())
    drains.check()
    assert begun == [once, often]
