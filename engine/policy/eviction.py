"""Who has to make room: the least recently used, or a hot adapter whose turn is over. Pure."""

from engine.policy.pin_budget import PinBudget
from engine.policy.tiers import Place, Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId


class VictimSelector:
    """Chooses; takes nobody out.

    A draining adapter is hot, admits nobody and leaves for one that waited too long: its slot,
    and its host place too if that one has none.
    """

    def __init__(self, tiers: Tiers, pins: PinBudget, waiting: WaitQueue) -> None:
        self._tiers = tiers
        self._pins = pins
        self._waiting = waiting
        self._drains: dict[VersionId, VersionId] = {}  # who leaves → for whom

    # ---- who is next ---------------------------------------------------------------------

    def of_host(self, wanted_by: VersionId) -> list[VersionId] | None:
        """Those who have to leave the host tier for this adapter; None if there is no way now.

        Those in no slot go first, the least recently used of them before the others.
        """
        chosen: list[VersionId] = []
        for version in self._may_leave_host():
            if self._tiers.fit_into_host([wanted_by], without=chosen):
                break
            chosen.append(version)
        return chosen if self._tiers.fit_into_host([wanted_by], without=chosen) else None

    def _may_leave_host(self) -> list[VersionId]:
        outside_slots = [v for v in self._tiers.in_lru_order(Place.HOST) if self._may_leave(v)]
        idle = [v for v in self._idle_in_slots() if self._may_leave(v) or self._gives_way(v)]
        held_up = self._awaited_in_host() if any(map(self._gives_way, idle)) else []
        return outside_slots + idle + held_up

    def _awaited_in_host(self) -> list[VersionId]:
        """They wait for a slot that is promised to one beside the tiers, and keep its bytes.

        Where places are all that counts, the one that gives way makes room enough by itself.
        """
        in_host = self._tiers.in_lru_order(Place.HOST)
        return [v for v in in_host if v not in self._pins and self._waiting.count(v)]

    def of_slots(self, wanted_by: VersionId) -> VersionId | None:
        """The next to leave its slot for this adapter."""
        for version in self._idle_in_slots():
            promised_to = self._drains.get(version, wanted_by)
            if promised_to == wanted_by and not self._pins.in_slot(version):
                return version
        return None

    def _idle_in_slots(self) -> list[VersionId]:
        return [v for v in self._tiers.in_lru_order(Place.SLOT) if not self._tiers.leases(v)]

    def _may_leave(self, version: VersionId) -> bool:
        return version not in self._pins and not self._waiting.count(version)

    def _gives_way(self, version: VersionId) -> bool:
        """It drains for one that can't even enter the host tier, so it leaves that, awaited or not.

        The place goes to whoever was staged first: all in line are beside the tiers.
        """
        return version in self._drains and not self._tiers.entered_host(self._drains[version])

    # ---- drains --------------------------------------------------------------------------

    def drain_for(self, version: VersionId) -> VersionId | None:
        """Let the hot adapter that was granted longest ago drain for this one; None if none can.

        Of those that could leave, its running requests began first, so they should end first.
        """
        if self._needs_a_slot(version):
            able = [v for v in self._able_to_drain() if not self._pins.in_slot(v)]
        elif self._needs_host_room(version):
            idle = self._may_leave_host()
            able = [v for v in self._able_to_drain() if v not in self._pins and v not in idle]
        else:
            return None
        if not able:
            return None
        chosen = min(able, key=self._tiers.last_grant)
        self._drains[chosen] = version
        return chosen

    def _able_to_drain(self) -> list[VersionId]:
        return [v for v in self._tiers.in_lru_order(Place.SLOT) if v not in self._drains]

    def _needs_a_slot(self, version: VersionId) -> bool:
        in_host = self._tiers.place_of(version) is Place.HOST
        return in_host and version not in self._drains.values()

    def _needs_host_room(self, version: VersionId) -> bool:
        """Staged, or held up by those who are, and more has to leave than drains already.

        One drain for each staged adapter is enough, unless this one is so large that the hot ones
        that leave for it don't make room.
        """
        if self._tiers.place_of(version) not in (None, Place.STAGED):
            return False
        leaving_for_it = [hot for hot, cold in self._drains.items() if cold == version]
        entering = [version] if leaving_for_it else self._tiers.staged()
        leaving = leaving_for_it or [hot for hot in self._drains if self._gives_way(hot)]
        held_up = self._awaited_in_host() if leaving else []
        without = {*self._may_leave_host(), *leaving, *held_up}
        return not self._tiers.fit_into_host(entering, without=without)

    def is_draining(self, version: VersionId) -> bool:
        return version in self._drains

    def stop_draining(self, version: VersionId) -> None:
        """It left its slot, or has to stay."""
        self._drains.pop(version, None)

    def end_drains_for(self, version: VersionId) -> None:
        """It had its turn, or wants none any more."""
        self._drains = {hot: cold for hot, cold in self._drains.items() if cold != version}

    def end_all_drains(self) -> None:
        self._drains.clear()

    def check(self) -> None:
        """Raise AssertionError if an adapter drains that is in no slot, or for nobody."""
        assert set(self._drains) <= set(self._tiers.residency().gpu), "drains, but is in no slot"
        assert all(map(self._waiting.count, self._drains.values())), "drains for nobody"
