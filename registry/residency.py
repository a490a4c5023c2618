"""Keeps pins and the last residency, so that a restarted engine can be warm again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Select, delete, select
from sqlmodel import col

from registry.db import Database
from registry.models import SERVABLE, Adapter, Version, now
from registry.residency_models import Pin, Resident

Saved = TypeVar("Saved", Pin, Resident)


@dataclass(frozen=True, slots=True)
class StoredPin:
    """`reference` is `name:3`; `tier` is `gpu` or `host`."""

    version_id: int
    reference: str
    tier: str
    expires_at: datetime | None


class ResidencyStore:
    """Every call is one short transaction. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_pin(self, version_id: int, tier: str, expires_at: datetime | None) -> None:
        """Keep the pin, in place of an earlier one of this version."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.merge(Pin(version_id=version_id, tier=tier, expires_at=expires_at))

    async def remove_pins(self, version_ids: Sequence[int]) -> None:
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(Pin).where(col(Pin.version_id).in_(version_ids)))

    async def pins(self) -> list[StoredPin]:
        """Those of versions that may be served and whose time is not over, the oldest first."""
        statement = _named(Pin).order_by(col(Pin.pinned_at), col(Pin.version_id))
        async with self._database.reading() as session:
            rows = (await session.execute(statement)).all()
        return [
            StoredPin(pin.version_id, f"{adapter}:{number}", pin.tier, pin.expires_at)
            for pin, adapter, number in rows
            if pin.expires_at is None or pin.expires_at > now()
        ]

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        """Who is in host memory, the one used last first; in place of what was saved before."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(Resident))
            session.add_all(
                Resident(version_id=version_id, position=position)
                for position, version_id in enumerate(version_ids)
            )

    async def residents(self) -> list[str]:
        """References of those saved last that may be served, the one used last first."""
        statement = _named(Resident).order_by(col(Resident.position))
        async with self._database.reading() as session:
            rows = (await session.execute(statement)).all()
        return [f"{adapter}:{number}" for _, adapter, number in rows]


def _named(table: type[Saved]) -> "Select[Saved, str, int]":
    """Rows with their adapter's name and version's number, if that may be served."""
    return (
        select(table, col(Adapter.name), col(Version.number))
        .join(Version, col(Version.id) == col(table.version_id))
        .join(Adapter, col(Adapter.id) == col(Version.adapter_id))
        .where(col(Version.state).in_(sorted(SERVABLE)))
    )
