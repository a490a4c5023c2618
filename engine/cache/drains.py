"""Drains: when a hot adapter is drained for one that has waited too long, and when no longer.

What these rules promise is in docs/concepts/fairness.md.
"""

import math

from engine.cache.event_reporter import EventReporter
from engine.cache.lease import LeaseRequest
from engine.cache.state import CacheState, PendingRequest
from engine.cache.wait_estimates import DrainPatience, RunningLeases
from engine.policy.decisions import Ticket
from engine.policy.policy import CachePolicy
from engine.types import AdmissionLimits, VersionId


class Drains:
    """Begins and gives up drains; the policy executes them."""

    def __init__(
        self,
        policy: CachePolicy,
        reporter: EventReporter,
        state: CacheState,
        limits: AdmissionLimits,
    ) -> None:
        self._policy = policy
        self._reporter = reporter
        self._state = state
        self._clock = state.clock
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

    def record_lease(self, request: LeaseRequest) -> None:
        self._running.begin(request.version.id, request, self._clock())

    def record_release(self, request: LeaseRequest) -> None:
        began = self._running.end(request.version.id, request)
        if request.counted:
            self._patience.record_lease(self._clock() - began)

    # ---- drains --------------------------------------------------------------------------

    def check(self) -> None:
        """Begin those that are due, and give up those that take too long."""
        self._give_up_old()
        overdue = self._state.overdue_requests(self.patience_seconds())
        oldest = {each.version.id: (ticket, each) for ticket, each in reversed(overdue)}
        ending = self._expected_to_end() if overdue else {}
        for ticket, pending in reversed(oldest.values()):
            if not ending:
                break
            self._drain_for(ticket, pending, ending)

    def _drain_for(
        self, ticket: Ticket, pending: PendingRequest, ending: dict[VersionId, float]
    ) -> None:
        """Not for one that will have given up before the leases can be expected to end."""
        left = self._timeout_seconds - (self._clock() - pending.arrived)
        while hot := self._policy.drain_for(ticket, lambda v: ending.get(v, math.inf) <= left):
            del ending[hot]
            self._began.setdefault(pending.version.id, self._clock())
            self._reporter.report_drain(hot, pending.version)

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
