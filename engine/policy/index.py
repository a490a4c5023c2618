"""Planning index: what can leave, and what waits for what, so that no plan scans a tier. Pure."""

import heapq
from collections.abc import Callable, Iterator, Set

from engine.policy.eviction_orders.base import EvictionKey, EvictionOrder
from engine.policy.pin_budget import PinBudget
from engine.policy.tiers import Place, Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId

_MIN_STALE = 16


class OrderedIndex:
    """Versions by a key, the lowest first. Changes cost O(log n); reading k of them, O(k log k).

    A heap with stale entries: one counts only if it has the version's present key.
    """

    def __init__(self) -> None:
        self._present: dict[VersionId, tuple[EvictionKey, int]] = {}
        self._heap: list[tuple[EvictionKey, VersionId]] = []
        self.versions: Set[VersionId] = self._present.keys()  # in no order; tested in each plan
        self.total_bytes = 0

    def __len__(self) -> int:
        return len(self._present)

    def put(self, version: VersionId, key: EvictionKey, size_bytes: int = 0) -> None:
        """Add it, or change its key or size."""
        before = self._present.get(version)
        if before == (key, size_bytes):
            return
        self._present[version] = (key, size_bytes)
        self.total_bytes += size_bytes
        if before is not None:
            self.total_bytes -= before[1]
        if before is None or before[0] != key:
            heapq.heappush(self._heap, (key, version))
            if len(self._heap) > 2 * len(self._present) + _MIN_STALE:
                self._heap = [(key, v) for v, (key, _) in self._present.items()]
                heapq.heapify(self._heap)

    def discard(self, version: VersionId) -> None:
        present = self._present.pop(version, None)
        if present is not None:
            self.total_bytes -= present[1]

    def clear(self) -> None:
        self._present.clear()
        self._heap.clear()
        self.total_bytes = 0

    def first(self) -> VersionId | None:
        while self._heap:
            if self._counts(self._heap[0]):
                return self._heap[0][1]
            heapq.heappop(self._heap)
        return None

    def __iter__(self) -> Iterator[VersionId]:
        """In order. Lazy: change nothing meanwhile."""
        self.first()  # drops stale entries, which would be passed by each iteration
        heap, last = self._heap, None
        frontier = [(heap[0], 0)] if heap else []
        while frontier:
            entry, at = heapq.heappop(frontier)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(heap):
                    heapq.heappush(frontier, (heap[child], child))
            if entry != last and self._counts(entry):
                last = entry
                yield entry[1]

    def _counts(self, entry: tuple[EvictionKey, VersionId]) -> bool:
        present = self._present.get(entry[1])
        return present is not None and present[0] == entry[0]


class PlanningIndex:
    """Follows tiers, pins and wait queue: each calls `refresh` for the adapter that changed.

    What may leave, in the eviction order:
    - `unused`: in host memory only, neither pinned nor waited for;
    - `idle`: in a slot, not leased, if pinned or waited for or not;
    - `held_up`: in host memory only, not pinned, waited for.

    What is waited for, the oldest waiter first: `cold` is on disk only, `in_host` in host memory
    only; and `in_slot` (in no order).
    """

    def __init__(
        self, tiers: Tiers, pins: PinBudget, wait_queue: WaitQueue, order: EvictionOrder
    ) -> None:
        self.unused = OrderedIndex()
        self.idle = OrderedIndex()
        self.held_up = OrderedIndex()
        self.cold = OrderedIndex()
        self.in_host = OrderedIndex()
        self.in_slot: set[VersionId] = set()
        self._tiers = tiers
        self._pins = pins
        self._wait_queue = wait_queue
        self._order = order
        self._leaves_from: dict[VersionId, OrderedIndex] = {}
        self._waits_in: dict[VersionId, OrderedIndex] = {}
        self._follow: Callable[[VersionId], None] | None = None
        self._follow_clear: Callable[[], None] = lambda: None
        tiers.on_change = pins.on_change = wait_queue.on_change = self.refresh

    def follow(self, changed: Callable[[VersionId], None], cleared: Callable[[], None]) -> None:
        """`changed` is called after each change of an adapter, `cleared` once nothing is
        resident.
        """
        self._follow = self._tiers.on_resize = changed
        self._follow_clear = cleared

    def refresh(self, version: VersionId) -> None:
        """Its place, leases, size, pin or oldest waiter changed. A request causes twelve such."""
        place, waited_for = self._tiers.place_of(version), self._wait_queue.is_waited_for(version)
        leaves_from = waits_in = None
        if place is None:
            if waited_for:
                waits_in = self.cold
        elif place is Place.SLOT:
            if not self._tiers.is_leased(version):
                leaves_from = self.idle
        elif place is Place.HOST:
            if waited_for:
                waits_in = self.in_host
            if version not in self._pins:
                leaves_from = self.held_up if waited_for else self.unused
        self._move(version, self._leaves_from, leaves_from)
        self._move(version, self._waits_in, waits_in)
        if leaves_from is not None:
            leaves_from.put(version, self._order.key(version), self._tiers.size_of(version))
        if waits_in is not None:
            waits_in.put(version, (self._wait_queue.first_arrival(version),))
        if waited_for and place is Place.SLOT:
            self.in_slot.add(version)
        else:
            self.in_slot.discard(version)
        if self._follow is not None:
            self._follow(version)

    @staticmethod
    def _move(
        version: VersionId, where: dict[VersionId, OrderedIndex], to: OrderedIndex | None
    ) -> None:
        before = where.get(version)
        if before is to:
            return
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
        host = list(self._order.in_order())
        only_host = [v for v in host if tiers.place_of(v) is Place.HOST]
        free = [v for v in only_host if v not in self._pins]
        assert list(self.unused) == [v for v in free if not queue.count(v)], "unused differ"
        assert list(self.held_up) == [v for v in free if queue.count(v)], "held up differ"
        in_slots = [v for v in host if tiers.place_of(v) is Place.SLOT]
        assert list(self.idle) == [v for v in in_slots if not tiers.lease_count(v)], "idle differ"
        awaited = queue.versions()
        assert list(self.cold) == [v for v in awaited if tiers.place_of(v) is None], "cold differ"
        assert list(self.in_host) == [v for v in awaited if v in only_host], "waiting differ"
        assert self.in_slot == {v for v in awaited if v in in_slots}, "grantable differ"
