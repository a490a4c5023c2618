"""Tiers: where every adapter is, how many requests hold it, and in which order they leave. Pure."""

from collections.abc import Callable, Collection, Iterator, Set

from engine.policy.decisions import Residency
from engine.policy.eviction_orders.base import EvictionKey, EvictionOrder
from engine.policy.place import ACTIVATING, HOST, LOADING, SLOT, SLOW, STAGED, Place
from engine.policy.version_map import VersionMap
from engine.types import VersionId


class Tiers:
    """Both tiers with their leases. Records where adapters are, not where they should be.

    `slot_order`: in which adapters leave their slots; None: the same as `eviction_order`.

    `host_bytes` None: only the places of the host tier are counted. Every change and every view
    that a plan needs costs O(1). `is_wanted`: not to be forgotten, if beside the tiers or on disk
    only. `on_change` is called with the adapter that a change concerned, `on_resize` if that is its
    size only, and it is not in the host tier.
    """

    def __init__(
        self,
        *,
        slots: int,
        host_capacity: int,
        host_bytes: int | None = None,
        eviction_order: EvictionOrder,
        slot_order: EvictionOrder | None = None,
        is_wanted: Callable[[VersionId], bool] = lambda version: False,
    ) -> None:
        self.slots = slots
        self.host_capacity = host_capacity
        self.host_bytes = host_bytes
        self.on_change: Callable[[VersionId], None] = lambda version: None
        self.on_resize: Callable[[VersionId], None] = lambda version: None
        self._order = eviction_order
        self._slot_order = slot_order
        self.orders = [eviction_order] if slot_order is None else [eviction_order, slot_order]
        self.eviction_key: Callable[[VersionId], EvictionKey] = eviction_order.key
        """Of one in host memory; the lowest is the next victim."""
        self.slot_key: Callable[[VersionId], EvictionKey] = self.orders[-1].key
        """Of one in a slot; the lowest is the next to leave it."""
        self._host: set[VersionId] = set()
        self._host_bytes = 0  # of what is in the host tier
        self._in_slots: set[VersionId] = set()
        self.occupants: Set[VersionId] = self._in_slots
        """In a slot, or being copied into one."""
        self._outside: dict[VersionId, Place] = {}  # in the order in which loads began
        self._place: dict[VersionId, Place] = {}
        self._sizes = VersionMap[int](lambda v: v in self._place or is_wanted(v))
        self.find_size: Callable[[VersionId], int | None] = self._sizes.get
        """None: not known."""
        self._leases: dict[VersionId, int] = {}
        # each is asked a dozen times for a request: without a call of Python
        self.outside = self._outside.keys()  # being loaded or staged, beside the tiers
        self.place_of: Callable[[VersionId], Place | None] = self._place.get
        self.is_leased: Callable[[VersionId], bool] = self._leases.__contains__
        self._last_grants: dict[VersionId, int] = {}  # the number of the last grant of each
        self._grants = 0

    def put(self, version: VersionId, place: Place) -> None:
        """It is there now."""
        outside = self._outside
        was_outside = version in outside
        self._place[version] = place
        if place is LOADING or place is STAGED or place is SLOW:
            outside[version] = place
        else:
            if was_outside:
                del outside[version]
            if version not in self._host:
                self._enter(version)
            if place is SLOT or place is ACTIVATING:
                if version not in self._in_slots:
                    self._enter_slot(version)
            elif version in self._in_slots:
                self._leave_slot(version)
        if not was_outside:  # else it waits there still, or moves in: nothing follows that
            self.on_change(version)

    def _enter(self, version: VersionId) -> None:
        self._host.add(version)
        self._host_bytes += self.size_of(version)
        self._order.insert(version)

    def _enter_slot(self, version: VersionId) -> None:
        self._in_slots.add(version)
        if self._slot_order is not None:
            self._slot_order.insert(version)

    def _leave_slot(self, version: VersionId) -> None:
        self._in_slots.remove(version)
        if self._slot_order is not None:
            self._slot_order.remove(version)

    def remove(self, version: VersionId) -> None:
        self._place.pop(version, None)
        self._outside.pop(version, None)
        if version in self._in_slots:
            self._leave_slot(version)
        self._last_grants.pop(version, None)
        if version in self._host:
            self._host.discard(version)
            self._host_bytes -= self.size_of(version)
        self._order.remove(version)
        self.on_change(version)

    def learn_size(self, version: VersionId, size_bytes: int) -> None:
        """What it takes, or will take, in host memory. An unknown size counts as 0."""
        if version not in self._host:
            self._sizes.put(version, size_bytes)
            self.on_resize(version)
            return
        self._host_bytes += size_bytes - self.size_of(version)
        self._sizes.put(version, size_bytes)
        self.on_change(version)

    def size_of(self, version: VersionId) -> int:
        return self._sizes.get(version) or 0

    def places(self) -> Collection[VersionId]:
        """All that are in a tier or on their way into one."""
        return self._place.keys()

    def clear(self) -> None:
        """Nothing is resident and nothing is leased. Sizes stay known."""
        self._leases.clear()
        self._last_grants.clear()
        self._place.clear()
        self._outside.clear()
        self._in_slots.clear()
        self._host.clear()
        self._host_bytes = 0
        for order in self.orders:
            order.clear()

    def acquire(self, version: VersionId, *, leaves_queue: bool = False) -> None:
        """One more lease. `leaves_queue`: for a waiter that does so next, which is the change."""
        self._leases[version] = self._leases.get(version, 0) + 1
        self._grants += 1
        self._last_grants[version] = self._grants
        for order in self.orders:
            order.touch(version, granted=True)
        if not leaves_queue:
            self.on_change(version)

    def release(self, version: VersionId) -> None:
        """One lease less."""
        if (left := self._leases[version] - 1) > 0:
            self._leases[version] = left
        else:
            del self._leases[version]
        for order in self.orders:
            order.touch(version, granted=False)
        self.on_change(version)

    def learn_cost(self, version: VersionId, load_seconds: float) -> None:
        """How long its load from disk took."""
        for order in self.orders:
            order.learn_cost(version, self.size_of(version), load_seconds)
        if version in self._host:  # else it has no place in an order
            self.on_change(version)

    def lease_count(self, version: VersionId) -> int:
        return self._leases.get(version, 0)

    def last_grant(self, version: VersionId) -> int:
        """Grants are numbered; the lower, the longer ago. 0 if there was none."""
        return self._last_grants.get(version, 0)

    def any_leases(self) -> bool:
        return bool(self._leases)

    # ---- views ---------------------------------------------------------------------------

    def host_in_eviction_order(self) -> Iterator[VersionId]:
        """Everything in the host tier, the next victim first. Lazy: change nothing meanwhile."""
        return self._order.in_order()

    def in_slots(self) -> list[VersionId]:
        """Those in a slot, not those that are on their way into one; in no order."""
        return [v for v in self._in_slots if self._place[v] is SLOT]

    def staged(self) -> list[VersionId]:
        """Those that wait for a place in the host tier, in the order in which loads began."""
        return [v for v, place in self._outside.items() if place is STAGED]

    def staged_count(self) -> int:
        return list(self._outside.values()).count(STAGED)

    def slow_count(self) -> int:
        return list(self._outside.values()).count(SLOW)

    def shortage(self, entering: Collection[VersionId]) -> tuple[int, int]:
        """How many places and bytes of the host tier these lack; not positive: it has them."""
        places = len(self._host) + len(entering) - self.host_capacity
        if self.host_bytes is None:
            return places, 0
        return places, self._host_bytes + sum(map(self.size_of, entering)) - self.host_bytes

    def slots_are_full(self) -> bool:
        return len(self._in_slots) >= self.slots

    def has_host_place(self, version: VersionId) -> bool:
        """In the host tier, if only since the last decision."""
        return version in self._host

    def is_settled(self, version: VersionId) -> bool:
        place = self._place.get(version)
        return place is HOST or place is SLOT

    def in_transit(self) -> tuple[VersionId, ...]:
        return tuple(v for v in self._place if not self.is_settled(v))

    def residency(self) -> Residency:
        host = tuple(self._order.in_order())
        if self._slot_order is not None:
            return Residency(gpu=tuple(self._slot_order.in_order()), host=host)
        return Residency(gpu=tuple(v for v in host if v in self._in_slots), host=host)

    def check(self) -> None:
        """Raise AssertionError if a tier is overfull or a lease has no slot."""
        gpu, host = self.residency().gpu, self.residency().host
        assert len(gpu) <= self.slots, f"too many in slots: {gpu}"
        assert max(self.shortage(())) <= 0, f"too many or too large in host memory: {host}"
        assert self._host_bytes == sum(map(self.size_of, host)), "miscounted bytes"
        outside = {v for v, p in self._place.items() if p in (LOADING, SLOW, STAGED)}
        in_slots = {v for v, p in self._place.items() if p in (ACTIVATING, SLOT)}
        assert outside == set(self._outside), "miscounted what is beside the tiers"
        assert in_slots == self._in_slots, "miscounted slots"
        inside = set(self._place) - outside
        assert inside == set(host) == self._host, "eviction order and host tier differ"
        assert len(host) == len(inside), f"the eviction order has some twice: {host}"
        assert all(n > 0 for n in self._leases.values()), "lease count below one"
        assert set(self._leases) <= set(gpu), f"leased but in no slot: {set(self._leases)}"
