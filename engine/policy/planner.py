"""Planner: all that can be decided now, in the order in which it has to be carried out. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Collection

from engine.policy.decisions import Activate, Commit, Deactivate, Decision, Evict, Grant, StartLoad
from engine.policy.eviction import VictimSelector
from engine.policy.index import PlanningIndex
from engine.policy.place import ACTIVATING, COMMITTING, HOST, LOADING, SLOT
from engine.policy.ready_ahead import Batching, ReadyAhead
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import CacheOutcome, EvictionReason, VersionId

SLOTS_PER_DRAIN = 2
"""Where a queue stands, one of so many drains at a time."""
MOST_SLOW_LOADS = 6
"""In whose places others are loaded: with two of these, as many as a worker reads at a time."""


class Planner:
    """Turns the state of the cache into decisions; each counts as taken once it is returned.

    A plan looks at what it can move, at the slots, and at nothing else: its cost does not grow with
    the adapters that wait or the places of the host tier.
    """

    def __init__(
        self,
        tiers: Tiers,
        victims: VictimSelector,
        wait_queue: WaitQueue,
        index: PlanningIndex,
        max_loads: int,
        batching: Batching,
    ) -> None:
        self.prefetches: OrderedDict[VersionId, None] = OrderedDict()
        self.pending_evictions: OrderedDict[VersionId, EvictionReason] = OrderedDict()  # once idle
        self._tiers = tiers
        self._victims = victims
        self._wait_queue = wait_queue
        self._index = index
        self._max_loads = max_loads
        self._ready_ahead = ReadyAhead(tiers.slots, batching)
        self._drains_at_once = max(1, tiers.slots // batching.slots_per_drain)
        self._late = 0  # of the wait queue, when the last plan found nothing to load

    def plan(self) -> list[Decision]:
        """Everything that can be decided now."""
        decisions: list[Decision] = []
        index, tiers = self._index, self._tiers  # a request takes four plans: calls cost more
        if self.pending_evictions:
            self._plan_evictions(decisions)
        if index.in_slot:
            self._plan_grants(decisions)
        if (index.has_changed or self.prefetches or self._late != self._wait_queue.late) and (
            len(tiers.outside) < self._max_loads or self._may_load_besides()
        ):
            self._plan_loads(decisions)
        if tiers.outside:
            self._plan_commits(decisions)
        if index.in_host.versions and (index.idle.versions or len(tiers.occupants) < tiers.slots):
            self._plan_activations(decisions)
        return decisions

    def drain_for(
        self, version: VersionId, can_end: Callable[[VersionId], bool]
    ) -> VersionId | None:
        """See `VictimSelector.drain_for`. Where a queue stands, only some of the slots drain at a
        time: the others serve what is in them, and fewer requests wait for their turn.
        """
        most = self._drains_at_once if self._ready_ahead.queue_stands else None
        return self._victims.drain_for(version, can_end, most=most)

    def note_arrival(self) -> None:
        """A request comes. If no other waits, and not every slot is leased, no queue stands."""
        if not len(self._wait_queue) and self._may_activate():
            self._ready_ahead.note_pause()

    def _plan_evictions(self, decisions: list[Decision]) -> None:
        for version, reason in list(self.pending_evictions.items()):
            if self._tiers.is_settled(version) and not self._tiers.lease_count(version):
                decisions.append(self._evict(version, reason))

    def _plan_grants(self, decisions: list[Decision]) -> None:
        waiters_of, can_lease = self._wait_queue.waiters, self.can_lease
        waiters = [each for v in self._index.in_slot if can_lease(v) for each in waiters_of(v)]
        if len(waiters) > 1:
            waiters.sort(key=lambda each: each[1].arrival)
        for ticket, waiter in waiters:
            self._tiers.acquire(waiter.version, leaves_queue=True)
            self._wait_queue.remove(ticket)
            decisions.append(Grant(ticket, waiter.version, waiter.outcome))

    def try_lease(self, version: VersionId) -> bool:
        """Lease it to one more request, if it is in a slot and admits any."""
        if self.can_lease(version):
            self._tiers.acquire(version)
            return True
        return False

    def can_lease(self, version: VersionId) -> bool:
        if self._tiers.place_of(version) is not SLOT or version in self.pending_evictions:
            return False
        return not self._victims.is_draining(version)

    def _plan_loads(self, decisions: list[Decision]) -> None:
        """If it finds that nothing is to be loaded, that stays so until something changes."""
        while (version := self._next_to_load()) is not None:
            alone = len(self._index.cold.versions) < 2 and not self._index.in_host.versions
            self._ready_ahead.begin_load(alone=alone)
            self._tiers.put(version, LOADING)
            decisions.append(StartLoad(version))
            if len(self._tiers.outside) >= self._max_loads and not self._may_load_besides():
                return
        self._index.has_changed, self._late = False, self._wait_queue.late

    def _next_to_load(self) -> VersionId | None:
        """The one with the oldest waiter, unless enough others are ready for the slots before it is
        its turn. Then its load can wait: more requests for it come in the meantime, and what it
        would evict is used until then.
        """
        cold, in_host, ready_ahead = self._index.cold, self._index.in_host, self._ready_ahead
        if cold.versions and (version := cold.first()) is not None:
            arrival = self._wait_queue.first_arrival(version)
            count = ready_ahead.count if arrival > self._wait_queue.late else ready_ahead.most
            if len(in_host.versions) < count or in_host.key_at(count - 1) > (arrival,):
                return version
        if not self.prefetches:
            return None
        return next(filter(self._is_on_disk_only, self.prefetches), None)

    def _may_load_besides(self) -> bool:
        """In place of slow loads, and beside large ones that a byte budget leaves staged."""
        tiers, most = self._tiers, self._max_loads
        most += min(tiers.slow_count(), MOST_SLOW_LOADS)
        outside = len(tiers.outside)
        if outside < most:
            return True
        if tiers.host_bytes is None or outside >= most + self._max_loads:
            return False
        return outside - tiers.staged_count() < most

    def _is_on_disk_only(self, version: VersionId) -> bool:
        return self._tiers.place_of(version) is None

    def _plan_commits(self, decisions: list[Decision]) -> None:
        """The one staged first, then the others; one that doesn't fit yet lets smaller ones pass.

        Until it has waited so long that hot adapters drain for it: then it is next.
        """
        only_places_count = self._tiers.host_bytes is None
        staged = self._tiers.staged()
        if len(staged) > 1:
            staged.sort(key=self._is_only_prefetched)
        for version in staged:
            victims = self._victims.host_victims(version)
            if victims is None and (only_places_count or self._victims.is_making_room()):
                return
            if victims is None:
                continue
            for victim in victims:
                decisions.append(self._evict(victim, EvictionReason.CAPACITY, room_for=version))
            self._tiers.put(version, COMMITTING)
            decisions.append(Commit(version))

    def _is_only_prefetched(self, version: VersionId) -> bool:
        return not self._wait_queue.count(version)

    def _plan_activations(self, decisions: list[Decision]) -> None:
        while (found := self._next_for_slot()) is not None:
            version, victim = found
            if victim is not None:
                decisions.append(self._deactivate(victim, room_for=version))
            self._tiers.put(version, ACTIVATING)
            decisions.append(Activate(version))

    def _may_activate(self) -> bool:
        """A slot is free, or may be left."""
        return bool(self._index.idle.versions) or not self._tiers.slots_are_full()

    def _next_for_slot(self) -> tuple[VersionId, VersionId | None] | None:
        """The one in host memory with the oldest waiter, or else one that was promised a slot; and
        which leaves its slot for it, if none is free.

        None of them is to be evicted: the plan's evictions come first.
        """
        first = self._index.in_host.first()
        if first is None:
            return None
        if not self._tiers.slots_are_full():
            return first, None
        if not self._index.idle.versions:
            return None
        if (victim := self._victims.slot_victim(first)) is not None:
            return first, victim
        found = ((v, self._victims.slot_victim(v)) for v in self._victims.promised_slots())
        return next((each for each in found if each[1] is not None), None)

    def _evict(
        self, version: VersionId, reason: EvictionReason, room_for: VersionId | None = None
    ) -> Evict:
        left_slot = self._tiers.place_of(version) is SLOT
        self._tiers.remove(version)
        self.pending_evictions.pop(version, None)
        self._victims.stop_draining(version)
        self._victims.end_drains_for(version)  # a promised slot needs the host place
        if self._wait_queue.is_waited_for(version):
            self._wait_queue.set_outcome(version, CacheOutcome.MISS)
        return Evict(version, reason, left_slot, room_for)

    def _deactivate(self, version: VersionId, room_for: VersionId | None = None) -> Deactivate:
        self._tiers.put(version, HOST)
        self._victims.stop_draining(version)
        if self._wait_queue.is_waited_for(version):
            self._wait_queue.set_outcome(version, CacheOutcome.HOST_HIT)
        return Deactivate(version, EvictionReason.CAPACITY, room_for)

    # ---- drift and restarts --------------------------------------------------------------

    def correct(self, gpu: Collection[VersionId], host: Collection[VersionId]) -> list[Decision]:
        """Adopt what the engine holds, except for what is leased or moving.

        Returns the evictions of what the engine holds and the policy does not know.
        """
        for version in self._tiers.residency().host:
            if self._tiers.is_settled(version) and not self._tiers.lease_count(version):
                self._adopt(version, in_slot=version in gpu, in_host=version in host)
        in_slot = [v for v in gpu if self._tiers.place_of(v) is HOST]
        in_host = [v for v in host if not self._tiers.has_host_place(v)]
        return [
            *(Deactivate(v, EvictionReason.DRIFT) for v in in_slot),
            *(Evict(v, EvictionReason.DRIFT, left_slot=v in gpu) for v in in_host),
        ]

    def _adopt(self, version: VersionId, *, in_slot: bool, in_host: bool) -> None:
        if not in_host:
            self._evict(version, EvictionReason.DRIFT)
        elif not in_slot and self._tiers.place_of(version) is SLOT:
            self._deactivate(version)

    def reset(self) -> None:
        """The engine is a new one and holds nothing."""
        self._tiers.clear()
        self._index.clear()
        self._victims.end_all_drains()
        self.prefetches.clear()
        self.pending_evictions.clear()
