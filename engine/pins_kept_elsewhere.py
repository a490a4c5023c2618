"""For an engine whose pins somebody else saves: it keeps what it is told to."""

from collections.abc import Sequence
from datetime import datetime

from registry.residency import ResidencyStore, StoredPin


class NoPins:
    """A `PinStore` that forgets."""

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


class PinsKeptElsewhere(NoPins, ResidencyStore):
    """Saves all but pins."""
