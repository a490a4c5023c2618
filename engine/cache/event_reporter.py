"""Event reporter: completes decisions and results from the cache state to events for observers."""

import logging
from collections.abc import Sequence

from engine.cache.state import CacheState, PendingRequest
from engine.events import Drained, Drifted, Evicted, LookedUp, MovedIn
from engine.policy.decisions import Activate, Commit, Deactivate, Evict
from engine.ports import MoveResult, Observer
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    Tier,
    Transition,
    VersionId,
)

logger = logging.getLogger(__name__)


class EventReporter:
    """Also counts hits, and forgets the slot of what was evicted from it."""

    def __init__(self, observer: Observer, state: CacheState) -> None:
        self._observer = observer
        self._state = state

    def report_grant(self, request: PendingRequest, outcome: CacheOutcome) -> None:
        missed = outcome is CacheOutcome.MISS
        if not missed:
            self._state.record_hit(request.version.id)
        waited = self._state.clock() - request.arrived
        cause = request.cause if missed else None
        self._observer.on_event(LookedUp(request.version, outcome, cause, waited))

    def report_immediate_lease(self, version: AdapterVersion) -> None:
        """It was in its slot, and the request did not wait."""
        self._state.record_hit(version.id)
        self._observer.on_event(LookedUp(version, CacheOutcome.GPU_HIT, None, 0.0))

    def report_deactivation(self, decision: Deactivate) -> None:
        self._report_eviction(decision.version, Tier.GPU, decision.reason, decision.room_for)

    def report_eviction(self, decision: Evict) -> None:
        """From the host tier, and from the slot that it leaves with it."""
        version, reason, room_for = decision.version, decision.reason, decision.room_for
        self._report_eviction(version, Tier.HOST, reason, room_for)
        if decision.left_slot:
            capacity = reason is EvictionReason.CAPACITY
            slot_reason = EvictionReason.HOST_EVICTED if capacity else reason
            self._report_eviction(version, Tier.GPU, slot_reason, room_for)

    def _report_eviction(
        self, version_id: VersionId, tier: Tier, reason: EvictionReason, room_for: VersionId | None
    ) -> None:
        version = self._state.find_version(version_id)
        if version is None:  # the engine held what this process never loaded
            return
        slot = self._state.pop_slot(version_id) if tier is Tier.GPU else None
        incoming = None if room_for is None else self._state.version(room_for)
        idle = self._state.idle_seconds(version_id)
        self._observer.on_event(Evicted(version, tier, reason, idle, incoming, slot))

    def report_drain(self, hot: VersionId, room_for: VersionId) -> None:
        version, slot = self._state.version(hot), self._state.slot(hot)
        cold = self._state.version(room_for)
        logger.info("%s is drained: its slot is for %s", version.reference, cold.reference)
        self._observer.on_event(Drained(version, cold, slot))

    def report_entry(
        self, move: Commit | Activate, version: AdapterVersion, result: MoveResult
    ) -> None:
        """A commit or an activation has succeeded."""
        if isinstance(move, Commit):
            transition = Transition.DISK_TO_HOST
            seconds = result.seconds + self._state.load_seconds(version.id)
        else:
            transition, seconds = Transition.HOST_TO_GPU, result.seconds
        self._observer.on_event(MovedIn(version, transition, seconds, result.slot))

    def report_drift(self, ids: Sequence[VersionId]) -> None:
        known = [version for id_ in ids if (version := self._state.find_version(id_))]
        self._observer.on_event(Drifted(ids, known))
