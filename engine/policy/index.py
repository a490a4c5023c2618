"""Planning index: what can leave, and what waits for what, so that no plan scans a tier. Pure."""

from collections.abc import Callable
from typing import TypeVar

from engine.policy.ordered_index import OrderedIndex, SortedIndex
from engine.policy.pin_budget import PinBudget
from engine.policy.place import HOST, SLOT
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId

Index = TypeVar("Index", OrderedIndex, OrderedIndex | SortedIndex)


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
        self._tiers = tiers
        self._pins = pins
        self._wait_queue = wait_queue
        self._is_pinned, self._find_first_arrival = pins.is_pinned, wait_queue.find_first_arrival
        self._leaves_from: dict[VersionId, OrderedIndex] = {}
        self._waits_in: dict[VersionId, OrderedIndex | SortedIndex] = {}
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
        """Its place, leases, size, pin or oldest waiter changed. A request causes twelve such."""
        tiers = self._tiers
        place, arrival = tiers.place_of(version), self._find_first_arrival(version)
        leaves_from: OrderedIndex | None = None
        waits_in: OrderedIndex | SortedIndex | None = None
        if place is None:
            if arrival is not None:
                waits_in = self.cold
        elif place is SLOT:
            if not tiers.is_leased(version):
                leaves_from = self.idle
        elif place is HOST:
            if arrival is not None:
                waits_in = self.in_host
            if not self._is_pinned(version):
                leaves_from = self.unused if arrival is None else self.held_up
        if self._leaves_from.get(version) is not leaves_from:
            self._move(version, self._leaves_from, leaves_from)
        if self._waits_in.get(version) is not waits_in:
            self._move(version, self._waits_in, waits_in)
        if leaves_from is not None:
            key = tiers.slot_key if leaves_from is self.idle else tiers.eviction_key
            leaves_from.put(version, key(version), tiers.find_size(version) or 0)
        if waits_in is not None and arrival is not None:
            waits_in.put(version, (arrival,))
        if arrival is not None and place is SLOT:
            self.in_slot.add(version)
        elif version in self.in_slot:
            self.in_slot.discard(version)
        if self._follow is not None:
            self._follow(version)

    def _refresh_all(self) -> None:
        """The keys of many have changed."""
        for version in list(self._tiers.host_in_eviction_order()):
            self.refresh(version)

    @staticmethod
    def _move(version: VersionId, where: dict[VersionId, Index], to: Index | None) -> None:
        before = where.get(version)
        if before is not None:
            before.discard(version)
        if to is None:
            del where[version]
        else:
            where[version] = to

    def clear(self) -> None:
        """Nothing is resident, and nothing waits."""
        for index in (self.unused, self.idle, self.held_up, self.cold, self.in_host):
            index.clear()
        self.in_slot.clear()
        self._leaves_from.clear()
        self._waits_in.clear()
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
