"""For an engine whose pins and residents somebody else saves: it keeps what it is told to."""

from collections.abc import Sequence
from datetime import datetime

from registry.residency import ResidencyStore, StoredPin


class NothingKept:
    """A `PinStore` and a `ResidencyStore` that forget."""

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None = None,
    ) -> None:
        """Whoever told us has saved it."""

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        """The same."""

    async def forget_pins(self, version_ids: Sequence[int]) -> None:
        """The same."""

    async def pins(self) -> list[StoredPin]:
        """None: we will be told."""
        return []

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        """Whoever looks at us saves them."""

    async def residents(self) -> list[str]:
        """None: we will be told."""
        return []


class KeptElsewhere(NothingKept, ResidencyStore):
    """Saves no more than what was evicted by request."""
