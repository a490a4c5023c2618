"""Residency store: pins and the last residents, so that a restarted engine can be warm again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.client_address import client_address
from registry.database.engine import Database
from registry.models import SERVABLE, Adapter, Event, EventKind, Version, now
from registry.models.residency import Pin, Resident

Table = TypeVar("Table", Pin, Resident)


@dataclass(frozen=True, slots=True)
class StoredPin:
    """`reference` is `name:3`, `tier` is `gpu` or `host`. `replicas` None: on all of them."""

    version_id: int
    reference: str
    tier: str
    expires_at: datetime | None
    replicas: int | None = None


class ResidencyStore:
    """Every call is one short transaction. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None = None,
    ) -> None:
        """Save the pin; replaces an earlier one of this version."""
        pin = Pin(version_id=version_id, tier=tier, expires_at=expires_at, replicas=replicas)
        data: dict[str, Any] = {"tier": tier, "expires_at": expires_at and expires_at.isoformat()}
        if replicas is not None:
            data["replicas"] = replicas
        async with self._database.transaction(for_catalog=False) as session:
            await session.merge(pin)
            await _add_event(session, EventKind.CACHE_PINNED, version_id, actor, **data)

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        """Remove the pin at an operator's request."""
        async with self._database.transaction(for_catalog=False) as session:
            removal = delete(Pin).where(col(Pin.version_id) == version_id)
            if (await session.execute(removal.returning(col(Pin.version_id)))).first() is not None:
                await _add_event(session, EventKind.CACHE_UNPINNED, version_id, actor)

    async def expire_pins(self, version_ids: Sequence[int]) -> None:
        """Delete expired pins. No event: their expiry was recorded when they were made."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(Pin).where(col(Pin.version_id).in_(version_ids)))

    async def record_eviction(self, version_id: int, *, actor: str, force: bool) -> None:
        """Record that an operator evicted the version."""
        async with self._database.transaction(for_catalog=False) as session:
            await _add_event(session, EventKind.CACHE_EVICTED, version_id, actor, force=force)

    async def pins(self) -> list[StoredPin]:
        """Unexpired pins of servable versions, the oldest first."""
        statement = _select_servable(Pin).order_by(col(Pin.pinned_at), col(Pin.version_id))
        async with self._database.read_session() as session:
            rows = (await session.execute(statement)).all()
        return [
            StoredPin(pin.version_id, f"{adapter}:{number}", pin.tier, pin.expires_at, pin.replicas)
            for pin, adapter, number in rows
            if pin.expires_at is None or pin.expires_at > now()
        ]

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        """Save the versions in host memory, most recently used first; replaces the last save."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(Resident))
            session.add_all(
                Resident(version_id=version_id, position=position)
                for position, version_id in enumerate(version_ids)
            )

    async def residents(self) -> list[str]:
        """References of the saved, still servable versions, most recently used first."""
        statement = _select_servable(Resident).order_by(col(Resident.position))
        async with self._database.read_session() as session:
            rows = (await session.execute(statement)).all()
        return [f"{adapter}:{number}" for _, adapter, number in rows]


class NullResidencyStore:
    """Null store for replicas: the ingress persists pins and residency."""

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None = None,
    ) -> None:
        return

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        return

    async def expire_pins(self, version_ids: Sequence[int]) -> None:
        return

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        return

    async def pins(self) -> list[StoredPin]:
        return []

    async def residents(self) -> list[str]:
        return []


class ReplicaResidencyStore(NullResidencyStore, ResidencyStore):
    """A null store that still records evictions requested at this replica."""


async def _add_event(
    session: AsyncSession, kind: EventKind, version_id: int, actor: str, **data: Any
) -> None:
    version = await session.get_one(Version, version_id)
    session.add(
        Event(
            actor=actor,
            address=client_address(),
            kind=kind,
            adapter_id=version.adapter_id,
            to_version=version.number,
            data=data,
        )
    )


def _select_servable(table: type[Table]) -> "Select[Table, str, int]":
    """Rows of servable versions, with the adapter's name and the version's number."""
    return (
        select(table, col(Adapter.name), col(Version.number))
        .join(Version, col(Version.id) == col(table.version_id))
        .join(Adapter, col(Adapter.id) == col(Version.adapter_id))
        .where(col(Version.state).in_(sorted(SERVABLE)))
    )
