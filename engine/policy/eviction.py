"""Eviction: chooses victims in the eviction order, and hot adapters to drain. Pure."""

from engine.policy.pin_budget import PinBudget
from engine.policy.tiers import Place, Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId


class VictimSelector:
    """Chooses victims; evicts nothing itself.

    A draining adapter is hot, admits no further requests, and leaves for one that waited too long:
    its slot, and its host place too if that one has none.
    """

    def __init__(self, tiers: Tiers, pins: PinBudget, wait_queue: WaitQueue) -> None:
        self._tiers = tiers
        self._pins = pins
        self._wait_queue = wait_queue
        self._drains: dict[VersionId, VersionId] = {}  # draining adapter → the one it leaves for

    # ---- victims -------------------------------------------------------------------------

    def host_victims(self, wanted_by: VersionId) -> list[VersionId] | None:
        """Those that have to leave the host tier for this adapter; None if no room can be made now.

        Those in no slot go first; within each group, in the eviction order.
        """
        chosen: list[VersionId] = []
        for version in self._host_candidates():
            if self._tiers.fit_into_host([wanted_by], without=chosen):
                break
            chosen.append(version)
        return chosen if self._tiers.fit_into_host([wanted_by], without=chosen) else None

    def _host_candidates(self) -> list[VersionId]:
        in_host = self._tiers.in_eviction_order(Place.HOST)
        outside_slots = [v for v in in_host if self._is_evictable(v)]
        idle = [v for v in self._idle_in_slots() if self._is_evictable(v) or self._gives_way(v)]
        held_up = self._waited_for_in_host() if any(map(self._gives_way, idle)) else []
        return outside_slots + idle + held_up

    def _waited_for_in_host(self) -> list[VersionId]:
        """They wait for a slot that is promised to one beside the tiers, and occupy its bytes.

        Where only places count, the adapter that gives way makes enough room alone.
        """
        in_host = self._tiers.in_eviction_order(Place.HOST)
        return [v for v in in_host if v not in self._pins and self._wait_queue.count(v)]

    def slot_victim(self, wanted_by: VersionId) -> VersionId | None:
        """The next to leave its slot for this adapter."""
        for version in self._idle_in_slots():
            promised_to = self._drains.get(version, wanted_by)
            if promised_to == wanted_by and not self._pins.in_slot(version):
                return version
        return None

    def _idle_in_slots(self) -> list[VersionId]:
        in_slots = self._tiers.in_eviction_order(Place.SLOT)
        return [v for v in in_slots if not self._tiers.lease_count(v)]

    def _is_evictable(self, version: VersionId) -> bool:
        return version not in self._pins and not self._wait_queue.count(version)

    def _gives_way(self, version: VersionId) -> bool:
        """It drains for one that can't even enter the host tier, so it leaves that, even if waited
        for.

        The place goes to the one staged first: all in that queue are beside the tiers.
        """
        return version in self._drains and not self._tiers.has_host_place(self._drains[version])

    # ---- drains --------------------------------------------------------------------------

    def drain_for(self, version: VersionId) -> VersionId | None:
        """Let the hot adapter that was granted longest ago drain for this one; None if none can.

        Of those that could leave, its running requests began first, so they should end first.
        """
        if self._needs_a_slot(version):
            able = [v for v in self._able_to_drain() if not self._pins.in_slot(v)]
        elif self._needs_host_room(version):
            candidates = self._host_candidates()
            able = [v for v in self._able_to_drain() if v not in self._pins and v not in candidates]
        else:
            return None
        if not able:
            return None
        chosen = min(able, key=self._tiers.last_grant)
        self._drains[chosen] = version
        return chosen

    def _able_to_drain(self) -> list[VersionId]:
        return [v for v in self._tiers.in_eviction_order(Place.SLOT) if v not in self._drains]

    def _needs_a_slot(self, version: VersionId) -> bool:
        in_host = self._tiers.place_of(version) is Place.HOST
        return in_host and version not in self._drains.values()

    def _needs_host_room(self, version: VersionId) -> bool:
        """Staged, or held up by those that are, and more has to leave than drains already.

        One drain for each staged adapter is enough, unless this one is so large that the hot ones
        that leave for it don't make room.
        """
        if self._tiers.place_of(version) not in (None, Place.STAGED):
            return False
        leaving_for_it = [hot for hot, cold in self._drains.items() if cold == version]
        entering = [version] if leaving_for_it else self._tiers.staged()
        leaving = leaving_for_it or [hot for hot in self._drains if self._gives_way(hot)]
        held_up = self._waited_for_in_host() if leaving else []
        without = {*self._host_candidates(), *leaving, *held_up}
        return not self._tiers.fit_into_host(entering, without=without)

    def is_draining(self, version: VersionId) -> bool:
        return version in self._drains

    def stop_draining(self, version: VersionId) -> None:
        """It left its slot, or has to stay."""
        self._drains.pop(version, None)

    def end_drains_for(self, version: VersionId) -> None:
        """It has its slot, or needs none any more."""
        self._drains = {hot: cold for hot, cold in self._drains.items() if cold != version}

    def end_all_drains(self) -> None:
        self._drains.clear()

    def check(self) -> None:
        """Raise AssertionError if an adapter drains that is in no slot, or for no waiter."""
        assert set(self._drains) <= set(self._tiers.residency().gpu), "drains, but is in no slot"
        waited_for = map(self._wait_queue.count, self._drains.values())
        assert all(waited_for), "drains, but no request waits for the slot"
