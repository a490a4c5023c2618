"""Pin budget: a pinned adapter never leaves its tier, and room for one more remains. Pure."""

from collections.abc import Callable, Iterable, Iterator

from engine.errors import AdapterTooLarge, NotPinned, PinBudgetExceeded, PinBytesExceeded
from engine.policy.tiers import Tiers
from engine.types import Tier, VersionId


class PinBudget:
    """At most `slots - 1` pins in the GPU tier, at most `host_capacity - 1` pins in all.

    Where the host tier has a budget of bytes, the largest one that is in memory or wanted still
    fits beside them. `wanted`: those that are waited for or to be prefetched.
    `on_change` is called with an adapter that was pinned or unpinned.
    """

    def __init__(self, tiers: Tiers, wanted: Callable[[], Iterable[VersionId]]) -> None:
        self.on_change: Callable[[VersionId], None] = lambda version: None
        self._tiers = tiers
        self._wanted = wanted
        self._pins: dict[VersionId, Tier] = {}
        self.is_pinned: Callable[[VersionId], bool] = self._pins.__contains__

    def __contains__(self, version: object) -> bool:
        return version in self._pins

    def __iter__(self) -> Iterator[VersionId]:
        return iter(self._pins)

    def tier_of(self, version: VersionId) -> Tier | None:
        return self._pins.get(version)

    def in_slot(self, version: VersionId) -> bool:
        """True if the pin protects its slot, not just its place in host memory."""
        return self._pins.get(version) is Tier.GPU

    def count(self, tier: Tier) -> int:
        return sum(t is tier for t in self._pins.values())

    def add(self, version: VersionId, tier: Tier) -> None:
        """Pin it, or move its pin to another tier.

        Raises PinBudgetExceeded or PinBytesExceeded if too little of the tier would be left for
        the others.
        """
        others = {v: t for v, t in self._pins.items() if v != version}
        slots, host_capacity = self._tiers.slots, self._tiers.host_capacity
        in_slots = sum(t is Tier.GPU for t in others.values())
        if tier is Tier.GPU and in_slots >= slots - 1:
            raise PinBudgetExceeded(Tier.GPU, slots - 1, slots)
        if len(others) >= host_capacity - 1:
            raise PinBudgetExceeded(Tier.HOST, host_capacity - 1, host_capacity)
        self._check_bytes({*others, version})
        self._pins[version] = tier
        self.on_change(version)

    def _check_bytes(self, pinned: set[VersionId]) -> None:
        budget = self._tiers.host_bytes
        if budget is None:
            return
        pinned_bytes = sum(map(self._tiers.size_of, pinned))
        others = {*self._tiers.places(), *self._wanted()} - pinned
        largest = max(map(self._tiers.size_of, others), default=0)
        if pinned_bytes + largest > budget:
            raise PinBytesExceeded(pinned_bytes, largest, budget)

    def check_room_for(self, version: VersionId) -> None:
        """Raises AdapterTooLarge if it does not fit into the bytes that the other pins leave."""
        budget = self._tiers.host_bytes
        if budget is None:
            return
        size_bytes = self._tiers.size_of(version)
        pinned_bytes = sum(self._tiers.size_of(v) for v in self._pins if v != version)
        if size_bytes + pinned_bytes > budget:
            raise AdapterTooLarge(size_bytes, pinned_bytes, budget)

    def remove(self, version: VersionId) -> Tier:
        """Unpin it and say which tier it was pinned in. Raises NotPinned."""
        try:
            tier = self._pins.pop(version)
        except KeyError:
            raise NotPinned from None
        self.on_change(version)
        return tier
