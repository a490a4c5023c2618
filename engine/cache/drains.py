"""Drains: when a hot adapter is drained for one that has waited too long, and when no longer.

What these rules promise is in docs/concepts/fairness.md.
"""

import math
from collections.abc import Callable, Sequence

from engine.cache.wait_estimates import DrainPatience, RunningLeases
from engine.policy.decisions import Ticket
from engine.policy.policy import CachePolicy
from engine.types import AdmissionLimits, VersionId

_LATE = 1.5  # times the longest wait: then a load no longer waits for more requests


class Drains:
    """Begins and gives up drains; the policy executes them.

    `overdue`: the requests that have waited longer than so many seconds, each with the time of its
    arrival, the oldest first. `report` is called with the adapter that drains and the one it is
    for. The simulation has its own of both, and of the clock.
    """

    def __init__(
        self,
        policy: CachePolicy,
        overdue: Callable[[float], Sequence[tuple[Ticket, float]]],
        report: Callable[[VersionId, VersionId], None],
        clock: Callable[[], float],
        limits: AdmissionLimits,
    ) -> None:
        self._policy = policy
        self._overdue = overdue
        self._report = report
        self._clock = clock
        self._longest_seconds = limits.max_slot_wait_seconds
        self._timeout_seconds = limits.slot_timeout_seconds
        self._patience = DrainPatience(limits.max_slot_wait_seconds)
        self._running = RunningLeases()
        self._began: dict[VersionId, float] = {}  # by the adapter that they are for

    @property
    def check_seconds(self) -> float:
        """How often to `check`."""
        return self._patience.check_seconds

    def patience_seconds(self) -> float:
        """How long a request waits before a hot adapter is drained for it."""
        return self._patience.patience_seconds()

    # ---- how long leases last ------------------------------------------------------------

    def record_lease(self, version: VersionId, lease: object) -> None:
        self._running.begin(version, lease, self._clock())

    def record_release(self, version: VersionId, lease: object, *, counted: bool = True) -> None:
        """`counted`: of a client, not of an operator."""
        began = self._running.end(version, lease)
        if counted:
            self._patience.record_lease(self._clock() - began)

    # ---- drains --------------------------------------------------------------------------

    def check(self) -> None:
        """Begin those that are due, and give up those that take too long."""
        if self._began:
            self._give_up_old()
        if not len(self._policy.wait_queue):
            return
        overdue, oldest = self._overdue(self.patience_seconds()), dict[VersionId, Ticket]()
        self._mark_late(overdue)
        arrived = dict(overdue)
        for ticket in reversed(arrived):
            if (version := self._policy.wait_queue.version_of(ticket)) is not None:
                oldest[version] = ticket
        ending = self._expected_to_end() if overdue else {}
        for version, ticket in reversed(oldest.items()):
            if not ending:
                break
            self._drain_for(version, ticket, arrived[ticket], ending)

    def _mark_late(self, overdue: Sequence[tuple[Ticket, float]]) -> None:
        latest = self._clock() - _LATE * self._longest_seconds
        late = next((ticket for ticket, at in reversed(overdue) if at < latest), None)
        if late is not None:
            self._policy.wait_queue.mark_late(late)

    def _drain_for(
        self, version: VersionId, ticket: Ticket, arrived: float, ending: dict[VersionId, float]
    ) -> None:
        """Not for one that will have given up before the leases can be expected to end."""
        left = self._timeout_seconds - (self._clock() - arrived)
        while hot := self._policy.drain_for(ticket, lambda v: ending.get(v, math.inf) <= left):
            del ending[hot]
            self._began.setdefault(version, self._clock())
            self._report(hot, version)

    def _expected_to_end(self) -> dict[VersionId, float]:
        """Hot adapters and the seconds until their leases should have ended: those that end before
        a drain would be given up.
        """
        now, usual = self._clock(), self._patience.usual_seconds()
        longest = self._patience.longest_drain_seconds()
        hot = self._policy.hot_adapters()
        expected = {v: self._running.expected_seconds(v, now, usual_seconds=usual) for v in hot}
        return {version: seconds for version, seconds in expected.items() if seconds <= longest}

    def _give_up_old(self) -> None:
        latest = self._clock() - self._patience.longest_drain_seconds()
        for version, began in list(self._began.items()):
            if not self._policy.has_drains_for(version):
                del self._began[version]
            elif began < latest:
                self._policy.give_up_drains_for(version)
                del self._began[version]
