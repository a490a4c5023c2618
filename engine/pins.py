"""Pins as a budget: what is pinned never leaves its tier, and one place always stays free. Pure."""

from collections.abc import Iterator

from engine.errors import NotPinned, PinBudgetExceeded
from engine.types import Tier, VersionId


class PinBook:
    """At most `slots - 1` pins in the GPU tier, at most `host_capacity - 1` pins in all."""

    def __init__(self, *, slots: int, host_capacity: int) -> None:
        self._slots = slots
        self._host_capacity = host_capacity
        self._pins: dict[VersionId, Tier] = {}

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

        Raises PinBudgetExceeded if no place of the tier would be left for the others.
        """
        others = {v: t for v, t in self._pins.items() if v != version}
        in_slots = sum(t is Tier.GPU for t in others.values())
        if tier is Tier.GPU and in_slots >= self._slots - 1:
            raise PinBudgetExceeded(Tier.GPU, self._slots - 1, self._slots)
        if len(others) >= self._host_capacity - 1:
            raise PinBudgetExceeded(Tier.HOST, self._host_capacity - 1, self._host_capacity)
        self._pins[version] = tier

    def remove(self, version: VersionId) -> Tier:
        """Unpin it and say which tier it was pinned in. Raises NotPinned."""
        try:
            return self._pins.pop(version)
        except KeyError:
            raise NotPinned from None
