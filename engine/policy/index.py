"""Planning index: what can leave, and what waits for what, so that no plan scans a tier. Pure."""

from collections.abc import Callable

from engine.policy.ordered_index import OrderedIndex, SortedIndex
from engine.policy.pin_budget import PinBudget
from engine.policy.place import HOST, SLOT
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId

Membership = tuple[OrderedIndex | None, OrderedIndex | SortedIndex | None]
"""Where an adapter may leave from, and where it waits."""

_NOWHERE: Membership = (None, None)


class PlanningIndex:
    """Follows tiers, pins and wait queue: each calls `refresh` for the adapter that changed.

    What may leave, in the eviction order:
    - `unused`: in host memory only, neither pinned nor waited for;
    - `idle`: in a slot, not leased, if pinned or waited for or not;
    - `held_up`: in host memory only, not pinned, waited for.

    What is waited for, the oldest waiter first: `cold` is on disk only, `in_host` in host memory
    only; and `in_slot` (in no order).
    """

    def __init__(self, tiers: Tiers, pins: PinBudget, wait_queue: WaitQueue) -> None:
        self.unused = OrderedIndex()
        self.idle = OrderedIndex()
        self.held_up = OrderedIndex()
        self.cold = OrderedIndex()
        self.in_host = SortedIndex()  # no more than there are places
        self.in_slot: set[VersionId] = set()
        self.has_changed = False
        """Whether `cold` or `in_host` has, since the planner has set this to False."""
        self._tiers = tiers
        self._pins = pins
        self._wait_queue = wait_queue
        self._is_pinned, self._find_first_arrival = pins.is_pinned, wait_queue.find_first_arrival
        self._place_of, self._is_leased = tiers.place_of, tiers.is_leased
        self._find_size, self._counts_bytes = tiers.find_size, tiers.host_bytes is not None
        self._eviction_key, self._slot_key = tiers.eviction_key, tiers.slot_key
        self._members: dict[VersionId, Membership] = {}
        self._among_idle: Membership = (self.idle, None)
        self._among_unused: Membership = (self.unused, None)
        self._among_held_up: Membership = (self.held_up, self.in_host)
        self._among_pinned: Membership = (None, self.in_host)
        self._among_cold: Membership = (None, self.cold)
        self._follow: Callable[[VersionId], None] | None = None
        self._follow_clear: Callable[[], None] = lambda: None
        tiers.on_change = pins.on_change = self.refresh
        for order in tiers.orders:
            order.on_reorder(self._refresh_all)

    def follow(self, changed: Callable[[VersionId], None], cleared: Callable[[], None]) -> None:
        """`changed` is called after each change of an adapter, `cleared` once nothing is
        resident.
        """
        self._follow = self._tiers.on_resize = changed
        self._follow_clear = cleared

    def refresh(self, version: VersionId) -> None:  # noqa: PLR0912  # calls cost more
        """Its place, leases, size, pin or oldest waiter changed. A request causes nine such."""
        place, arrival = self._place_of(version), self._find_first_arrival(version)
        now, key_of = _NOWHERE, self._eviction_key
        if place is SLOT:
            if not self._is_leased(version):
                now, key_of = self._among_idle, self._slot_key
            if arrival is not None:
                self.in_slot.add(version)
        elif place is HOST:
            if arrival is None:
                now = _NOWHERE if self._is_pinned(version) else self._among_unused
            else:
                now = self._among_pinned if self._is_pinned(version) else self._among_held_up
        elif place is None and arrival is not None:
            now = self._among_cold
        if self.in_slot and (place is not SLOT or arrival is None):
            self.in_slot.discard(version)
        members = self._members
        if (before := members.get(version, _NOWHERE)) is not now:
            left_from, waited_in = before
            if left_from is not None:
                left_from.discard(version)
            if waited_in is not None:
                waited_in.discard(version)
                self.has_changed = True
            if now is _NOWHERE:
                del members[version]
            else:
                members[version] = now
        leaves_from, waits_in = now
        if leaves_from is not None:
            size_bytes = (self._find_size(version) or 0) if self._counts_bytes else 0
            leaves_from.put(version, key_of(version), size_bytes)
        if waits_in is not None and arrival is not None:
            waits_in.put(version, (arrival,))
            self.has_changed = True
        if self._follow is not None:
            self._follow(version)

    def _refresh_all(self) -> None:
        """The keys of many have changed."""
        for version in list(self._tiers.host_in_eviction_order()):
            self.refresh(version)

    def clear(self) -> None:
        """Nothing is resident, and nothing waits."""
        for index in (self.unused, self.idle, self.held_up, self.cold, self.in_host):
            index.clear()
        self.in_slot.clear()
        self._members.clear()
        self._follow_clear()

    def check(self) -> None:
        """Raise AssertionError if it differs from what a scan finds."""
        tiers, queue = self._tiers, self._wait_queue
        host = list(tiers.host_in_eviction_order())
        only_host = [v for v in host if tiers.place_of(v) is HOST]
        free = [v for v in only_host if v not in self._pins]
        assert list(self.unused) == [v for v in free if not queue.count(v)], "unused differ"
        assert list(self.held_up) == [v for v in free if queue.count(v)], "held up differ"
        in_slots = [v for v in tiers.residency().gpu if tiers.place_of(v) is SLOT]
        assert list(self.idle) == [v for v in in_slots if not tiers.lease_count(v)], "idle differ"
        awaited = queue.versions()
        assert list(self.cold) == [v for v in awaited if tiers.place_of(v) is None], "cold differ"
        assert list(self.in_host) == [v for v in awaited if v in only_host], "waiting differ"
        assert self.in_slot == {v for v in awaited if v in in_slots}, "grantable differ"
