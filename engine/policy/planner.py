"""Planner: all that can be decided now, in the order in which it has to be carried out. Pure."""

from collections import OrderedDict
from collections.abc import Collection, Iterator

from engine.policy.decisions import Activate, Commit, Deactivate, Decision, Evict, Grant, StartLoad
from engine.policy.eviction import VictimSelector
from engine.policy.tiers import Place, Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import CacheOutcome, EvictionReason, VersionId


class Planner:
    """Turns the state of the cache into decisions; each counts as taken once it is returned."""

    def __init__(
        self, tiers: Tiers, victims: VictimSelector, wait_queue: WaitQueue, *, max_loads: int
    ) -> None:
        self.prefetches: OrderedDict[VersionId, None] = OrderedDict()
        self.pending_evictions: OrderedDict[VersionId, EvictionReason] = OrderedDict()  # once idle
        self._tiers = tiers
        self._victims = victims
        self._wait_queue = wait_queue
        self._max_loads = max_loads

    def plan(self) -> list[Decision]:
        """Everything that can be decided now."""
        wanted = self._wait_queue or self.pending_evictions or self.prefetches
        if not (wanted or self._tiers.staged()):
            return []
        return [
            *self._plan_evictions(),
            *self._plan_grants(),
            *self._plan_loads(),
            *self._plan_commits(),
            *self._plan_activations(),
        ]

    def _plan_evictions(self) -> Iterator[Decision]:
        for version, reason in list(self.pending_evictions.items()):
            if self._tiers.is_settled(version) and not self._tiers.lease_count(version):
                yield self._evict(version, reason)

    def _plan_grants(self) -> Iterator[Decision]:
        for ticket, waiter in self._wait_queue.in_order():
            if self.try_lease(waiter.version):
                self._wait_queue.remove(ticket)
                yield Grant(ticket, waiter.version, waiter.outcome)

    def try_lease(self, version: VersionId) -> bool:
        """Lease it to one more request, if it is in a slot and admits any."""
        in_slot = self._tiers.place_of(version) is Place.SLOT
        admits = version not in self.pending_evictions and not self._victims.is_draining(version)
        if in_slot and admits:
            self._tiers.acquire(version)
        return in_slot and admits

    def _plan_loads(self) -> Iterator[Decision]:
        for version in [*self._wait_queue.versions(), *self.prefetches]:
            if self._tiers.outside_count() >= self._max_loads:
                return
            if self._tiers.place_of(version) is None:
                self._tiers.put(version, Place.LOADING)
                yield StartLoad(version)

    def _plan_commits(self) -> Iterator[Decision]:
        for version in sorted(self._tiers.staged(), key=self._is_only_prefetched):
            victims = self._victims.host_victims(version)
            if victims is None:
                return
            for victim in victims:
                yield self._evict(victim, EvictionReason.CAPACITY, room_for=version)
            self._tiers.put(version, Place.COMMITTING)
            yield Commit(version)

    def _is_only_prefetched(self, version: VersionId) -> bool:
        return not self._wait_queue.count(version)

    def _plan_activations(self) -> Iterator[Decision]:
        for version in self._wait_queue.versions():
            in_host = self._tiers.place_of(version) is Place.HOST
            if not in_host or version in self.pending_evictions:
                continue
            if self._tiers.slots_are_full():
                victim = self._victims.slot_victim(version)
                if victim is None:
                    continue
                yield self._deactivate(victim, room_for=version)
            self._tiers.put(version, Place.ACTIVATING)
            yield Activate(version)

    def _evict(
        self, version: VersionId, reason: EvictionReason, room_for: VersionId | None = None
    ) -> Evict:
        left_slot = self._tiers.place_of(version) is Place.SLOT
        self._tiers.remove(version)
        self.pending_evictions.pop(version, None)
        self._victims.stop_draining(version)
        self._victims.end_drains_for(version)  # a promised slot needs the host place
        self._wait_queue.set_outcome(version, CacheOutcome.MISS)
        return Evict(version, reason, left_slot, room_for)

    def _deactivate(self, version: VersionId, room_for: VersionId | None = None) -> Deactivate:
        self._tiers.put(version, Place.HOST)
        self._victims.stop_draining(version)
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
        in_slot = [v for v in gpu if self._tiers.place_of(v) is Place.HOST]
        in_host = [v for v in host if not self._tiers.has_host_place(v)]
        return [
            *(Deactivate(v, EvictionReason.DRIFT) for v in in_slot),
            *(Evict(v, EvictionReason.DRIFT, left_slot=v in gpu) for v in in_host),
        ]

    def _adopt(self, version: VersionId, *, in_slot: bool, in_host: bool) -> None:
        if not in_host:
            self._evict(version, EvictionReason.DRIFT)
        elif not in_slot and self._tiers.place_of(version) is Place.SLOT:
            self._deactivate(version)

    def reset(self) -> None:
        """The engine is a new one and holds nothing."""
        self._tiers.clear()
        self._victims.end_all_drains()
        self.prefetches.clear()
        self.pending_evictions.clear()
