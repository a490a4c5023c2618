"""What can be done now, in the order in which it has to be carried out. Pure."""

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
        self, tiers: Tiers, victims: VictimSelector, waiting: WaitQueue, *, max_loads: int
    ) -> None:
        self.prefetch: OrderedDict[VersionId, None] = OrderedDict()
        self.leaving: OrderedDict[VersionId, EvictionReason] = OrderedDict()  # once idle
        self._tiers = tiers
        self._victims = victims
        self._waiting = waiting
        self._max_loads = max_loads

    def plan(self) -> list[Decision]:
        """Everything that can be decided now."""
        if not (self._waiting or self.leaving or self.prefetch or self._tiers.staged()):
            return []
        return [
            *self._departures(),
            *self._grants(),
            *self._loads(),
            *self._commits(),
            *self._activations(),
        ]

    def _departures(self) -> Iterator[Decision]:
        for version, reason in list(self.leaving.items()):
            if self._tiers.is_settled(version) and not self._tiers.leases(version):
                yield self._evict(version, reason)

    def _grants(self) -> Iterator[Decision]:
        for ticket, waiter in self._waiting.in_order():
            if self.lease_resident(waiter.version):
                self._waiting.leave(ticket)
                yield Grant(ticket, waiter.version, waiter.outcome)

    def lease_resident(self, version: VersionId) -> bool:
        """To one more request, if it is in a slot and admits any."""
        in_slot = self._tiers.place_of(version) is Place.SLOT
        stays = version not in self.leaving and not self._victims.is_draining(version)
        if in_slot and stays:
            self._tiers.lease(version)
        return in_slot and stays

    def _loads(self) -> Iterator[Decision]:
        for version in [*self._waiting.versions(), *self.prefetch]:
            if self._tiers.outside() >= self._max_loads:
                return
            if self._tiers.place_of(version) is None:
                self._tiers.put(version, Place.LOADING)
                yield StartLoad(version)

    def _commits(self) -> Iterator[Decision]:
        for version in sorted(self._tiers.staged(), key=self._is_not_awaited):
            victims = self._victims.of_host(version)
            if victims is None:
                return
            for victim in victims:
                yield self._evict(victim, EvictionReason.CAPACITY, room_for=version)
            self._tiers.put(version, Place.COMMITTING)
            yield Commit(version)

    def _is_not_awaited(self, version: VersionId) -> bool:
        return not self._waiting.count(version)

    def _activations(self) -> Iterator[Decision]:
        for version in self._waiting.versions():
            if self._tiers.place_of(version) is not Place.HOST or version in self.leaving:
                continue
            if self._tiers.slots_are_full():
                victim = self._victims.of_slots(version)
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
        self.leaving.pop(version, None)
        self._victims.stop_draining(version)
        self._victims.end_drains_for(version)  # the promise of a slot goes with the host place
        self._waiting.lost(version, CacheOutcome.MISS)
        return Evict(version, reason, left_slot, room_for)

    def _deactivate(self, version: VersionId, room_for: VersionId | None = None) -> Deactivate:
        self._tiers.put(version, Place.HOST)
        self._victims.stop_draining(version)
        self._waiting.lost(version, CacheOutcome.HOST_HIT)
        return Deactivate(version, EvictionReason.CAPACITY, room_for)

    # ---- when the engine is not what it was ----------------------------------------------

    def correct(self, gpu: Collection[VersionId], host: Collection[VersionId]) -> list[Decision]:
        """Believe the engine, but for what is leased or just moving.

        Returns what it has to give up, because nobody here knows of it.
        """
        for version in self._tiers.residency().host:
            if self._tiers.is_settled(version) and not self._tiers.leases(version):
                self._believe(version, in_slot=version in gpu, in_host=version in host)
        in_slot = [v for v in gpu if self._tiers.place_of(v) is Place.HOST]
        in_host = [v for v in host if not self._tiers.entered_host(v)]
        return [
            *(Deactivate(v, EvictionReason.DRIFT) for v in in_slot),
            *(Evict(v, EvictionReason.DRIFT, left_slot=v in gpu) for v in in_host),
        ]

    def _believe(self, version: VersionId, *, in_slot: bool, in_host: bool) -> None:
        if not in_host:
            self._evict(version, EvictionReason.DRIFT)
        elif not in_slot and self._tiers.place_of(version) is Place.SLOT:
            self._deactivate(version)

    def forget(self) -> None:
        """The engine is a new one and holds nothing."""
        self._tiers.clear()
        self._victims.end_all_drains()
        self.prefetch.clear()
        self.leaving.clear()
