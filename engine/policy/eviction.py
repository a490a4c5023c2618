"""Eviction: chooses victims in the eviction order, and hot adapters to drain. Pure."""

from collections.abc import Callable, Collection, Iterator

from engine.policy.index import PlanningIndex
from engine.policy.pin_budget import PinBudget
from engine.policy.place import HOST, STAGED
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId


class VictimSelector:
    """Chooses victims; evicts nothing itself.

    A draining adapter is hot, admits no further requests, and leaves for one that waited too long:
    its slot, and its host place too if that one has none.
    """

    def __init__(
        self, tiers: Tiers, pins: PinBudget, wait_queue: WaitQueue, index: PlanningIndex
    ) -> None:
        self._tiers = tiers
        self._index = index
        self._pins = pins
        self._wait_queue = wait_queue
        self._drains: dict[VersionId, VersionId] = {}  # draining adapter → the one it leaves for
        self.is_draining: Callable[[VersionId], bool] = self._drains.__contains__

    # ---- victims -------------------------------------------------------------------------

    def host_victims(self, wanted_by: VersionId) -> list[VersionId] | None:
        """Those that have to leave the host tier for this adapter; None if no room can be made now.

        Those in no slot go first; within each group, in the eviction order.
        """
        places, size_bytes = self._tiers.shortage((wanted_by,))
        if places <= 0 and size_bytes <= 0:
            return []
        if places == 1 and size_bytes <= 0 and (first := self._index.unused.first()) is not None:
            return [first]  # nearly always
        if (candidates := self._candidates_for(wanted_by, places, size_bytes)) is None:
            return None
        chosen: list[VersionId] = []
        while places > 0 or size_bytes > 0:
            chosen.append(next(candidates))
            places -= 1
            size_bytes -= self._tiers.size_of(chosen[-1])
        return chosen

    def _candidates_for(
        self, wanted_by: VersionId, places: int, size_bytes: int
    ) -> Iterator[VersionId] | None:
        """Who may leave, in that order; None if all of them don't make enough room."""
        unused = self._index.unused
        if len(unused.versions) >= places and unused.total_bytes >= size_bytes:
            return iter(unused)
        if not (unused.versions or self._index.idle.versions):
            return None
        idle = self._idle_in_slots()
        held_up = any(map(self._gives_way, idle))
        if not self._makes_room([wanted_by], idle, held_up=held_up):
            return None
        return self._host_candidates(idle, held_up=held_up)

    def _idle_in_slots(self) -> list[VersionId]:
        """Those in slots that may leave the host tier."""
        return [v for v in self._index.idle if self._is_evictable(v) or self._gives_way(v)]

    def _host_candidates(
        self, idle: Collection[VersionId], *, held_up: bool
    ) -> Iterator[VersionId]:
        """Those held up wait for a slot that is promised to one beside the tiers, and occupy its
        bytes. Where only places count, the adapter that gives way makes enough room alone.
        """
        yield from self._index.unused
        yield from idle
        if held_up:
            yield from self._index.held_up

    def _makes_room(
        self, entering: Collection[VersionId], in_slots: Collection[VersionId], *, held_up: bool
    ) -> bool:
        """Whether these fit once all that may leave host memory and these in slots have left."""
        leaving = [self._index.unused, self._index.held_up] if held_up else [self._index.unused]
        places, size_bytes = self._tiers.shortage(entering)
        places -= len(in_slots) + sum(len(index.versions) for index in leaving)
        size_bytes -= sum(map(self._tiers.size_of, in_slots))
        size_bytes -= sum(index.total_bytes for index in leaving)
        return places <= 0 and size_bytes <= 0

    def slot_victim(self, wanted_by: VersionId) -> VersionId | None:
        """The next to leave its slot for this adapter."""
        for version in self._index.idle:
            promised_to = self._drains.get(version, wanted_by)
            if promised_to == wanted_by and not self._pins.in_slot(version):
                return version
        return None

    def promised_slots(self) -> list[VersionId]:
        """Those that wait in host memory, and for which another one drains; the oldest first."""
        waiting = {v for v in self._drains.values() if self._tiers.place_of(v) is HOST}
        return sorted(filter(self._wait_queue.count, waiting), key=self._wait_queue.first_arrival)

    def _is_evictable(self, version: VersionId) -> bool:
        return version not in self._pins and not self._wait_queue.count(version)

    def _gives_way(self, version: VersionId) -> bool:
        """It drains for one that can't even enter the host tier, so it leaves that, even if waited
        for.

        The place goes to the one staged first: all in that queue are beside the tiers.
        """
        return version in self._drains and not self._tiers.has_host_place(self._drains[version])

    # ---- drains --------------------------------------------------------------------------

    def drain_for(
        self,
        version: VersionId,
        can_end: Callable[[VersionId], bool],
        *,
        most: int | None = None,
    ) -> VersionId | None:
        """Let the hot adapter that was granted longest ago drain for this one; None if none can,
        or if as many as `most` drain already. One that needs several to leave the host tier gets
        them all, once the first drains for it.

        Of those that could leave, its running requests began first, so they should end first.
        None drains whose requests can't be expected to end, nor in vain without them.
        """
        if most is not None and len(self._drains) >= most and not self.has_drains_for(version):
            return None
        if self._needs_a_slot(version):
            able = [v for v in self.able_to_drain() if not self._pins.in_slot(v)]
        elif self._needs_host_room(version):
            idle = set(self._idle_in_slots())
            able = [v for v in self.able_to_drain() if v not in self._pins and v not in idle]
            ending = list(filter(can_end, able))
            if len(ending) < len(able) and not self._makes_room_by_drains(version, ending):
                return None
        else:
            return None
        able = list(filter(can_end, able))
        if not able:
            return None
        chosen = min(able, key=self._tiers.last_grant)
        self._drains[chosen] = version
        return chosen

    def _makes_room_by_drains(self, version: VersionId, also: Collection[VersionId]) -> bool:
        leaving = {*self._idle_in_slots(), *also, *(v for v in self._drains if self._gives_way(v))}
        entering = self._tiers.staged()[:1] or [version]
        return self._makes_room(entering, leaving, held_up=True)

    def able_to_drain(self) -> list[VersionId]:
        """In a slot and not draining yet."""
        return [v for v in self._tiers.in_slots() if v not in self._drains]

    def _needs_a_slot(self, version: VersionId) -> bool:
        in_host = self._tiers.place_of(version) is HOST
        return in_host and version not in self._drains.values()

    def _needs_host_room(self, version: VersionId) -> bool:
        """Staged, or held up by those that are, and more has to leave than drains already.

        One drain for each staged adapter is enough, unless this one is so large that the hot ones
        that leave for it don't make room.
        """
        if self._tiers.place_of(version) not in (None, STAGED):
            return False
        leaving_for_it = [hot for hot, cold in self._drains.items() if cold == version]
        entering = [version] if leaving_for_it else self._tiers.staged()
        leaving = leaving_for_it or [hot for hot in self._drains if self._gives_way(hot)]
        idle = self._idle_in_slots()
        held_up = bool(leaving) or any(map(self._gives_way, idle))
        return not self._makes_room(entering, {*idle, *leaving}, held_up=held_up)

    def is_making_room(self) -> bool:
        """Hot adapters drain for the host tier: what they leave is for the one staged first."""
        return any(map(self._gives_way, self._drains))

    def has_drains_for(self, version: VersionId) -> bool:
        return version in self._drains.values()

    def stop_draining(self, version: VersionId) -> None:
        """It left its slot, or has to stay."""
        self._drains.pop(version, None)

    def end_drains_for(self, version: VersionId) -> None:
        """It has its slot, or needs none any more."""
        if self._drains:  # seldom
            for hot in [hot for hot, cold in self._drains.items() if cold == version]:
                del self._drains[hot]

    def end_all_drains(self) -> None:
        self._drains.clear()

    def check(self) -> None:
        """Raise AssertionError if an adapter drains that is in no slot, or for no waiter."""
        assert set(self._drains) <= set(self._tiers.residency().gpu), "drains, but is in no slot"
        waited_for = map(self._wait_queue.count, self._drains.values())
        assert all(waited_for), "drains, but no request waits for the slot"
