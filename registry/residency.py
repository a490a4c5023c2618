"""Residency store: a server's pins and last residents, so that it is warm again after a restart.

Several servers may share a database: each reads and writes only its own, under the name that it
keeps over restarts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.client_address import client_address
from registry.database.engine import Database
from registry.models import SERVABLE, Adapter, Event, EventKind, Server, Version, now
from registry.models.residency import Pin, Resident

Table = TypeVar("Table", Pin, Resident)

_NO_SERVER = ""
"""The owner of rows from before servers were told apart."""


@dataclass(frozen=True, slots=True)
class StoredPin:
    """`reference` is `name:3`, `tier` is `gpu` or `host`. `replicas` None: on all of them."""

    version_id: int
    reference: str
    tier: str
    expires_at: datetime | None
    replicas: int | None = None


class ResidencyStore:
    """Every call is one short transaction. Raises DatabaseUnavailable.

    `server`: its name, which no other server on this database has.
    """

    def __init__(self, database: Database, server: str) -> None:
        self._database = database
        self._server = server

    async def open(self, base_id: int | None = None) -> None:
        """Make the server known. The first one takes what was stored before servers had names."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.merge(Server(name=self._server, base_id=base_id, started_at=now()))
            for table in (Pin, Resident):
                await self._take_unowned(session, table)

    async def _take_unowned(self, session: AsyncSession, table: type[Pin | Resident]) -> None:
        server, version = col(table.server), col(table.version_id)
        own = select(version).where(server == self._server)
        unowned = server == _NO_SERVER
        await session.execute(delete(table).where(unowned, version.in_(own)))
        await session.execute(update(table).where(unowned).values(server=self._server))

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
        pin = Pin(
            server=self._server,
            version_id=version_id,
            tier=tier,
            expires_at=expires_at,
            replicas=replicas,
        )
        data: dict[str, Any] = {"tier": tier, "expires_at": expires_at and expires_at.isoformat()}
        data["server"] = self._server
        if replicas is not None:
            data["replicas"] = replicas
        async with self._database.transaction(for_catalog=False) as session:
            await session.merge(pin)
            await _add_event(session, EventKind.CACHE_PINNED, version_id, actor, **data)

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        """Remove the pin at an operator's request."""
        async with self._database.transaction(for_catalog=False) as session:
            removal = delete(Pin).where(self._owns(Pin), col(Pin.version_id) == version_id)
            if (await session.execute(removal.returning(col(Pin.version_id)))).first() is not None:
                kind = EventKind.CACHE_UNPINNED
                await _add_event(session, kind, version_id, actor, server=self._server)

    async def expire_pins(self, version_ids: Sequence[int]) -> None:
        """Delete expired pins. No event: their expiry was recorded when they were made."""
        async with self._database.transaction(for_catalog=False) as session:
            expired = col(Pin.version_id).in_(version_ids)
            await session.execute(delete(Pin).where(self._owns(Pin), expired))

    async def record_eviction(self, version_id: int, *, actor: str, force: bool) -> None:
        """Record that an operator evicted the version."""
        async with self._database.transaction(for_catalog=False) as session:
            await _add_event(session, EventKind.CACHE_EVICTED, version_id, actor, force=force)

    async def pins(self) -> list[StoredPin]:
        """Unexpired pins of servable versions, the oldest first."""
        statement = oldest_pins_first().where(self._owns(Pin))
        async with self._database.read_session() as session:
            rows = (await session.execute(statement)).all()
        return [stored_pin(*row) for row in rows if not has_expired(row[0])]

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        """Save the versions in host memory, most recently used first; replaces the last save."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(Resident).where(self._owns(Resident)))
            session.add_all(
                Resident(server=self._server, version_id=version_id, position=position)
                for position, version_id in enumerate(version_ids)
            )

    async def residents(self) -> list[str]:
        """References of the saved, still servable versions, most recently used first."""
        statement = hottest_first().where(self._owns(Resident))
        async with self._database.read_session() as session:
            rows = (await session.execute(statement)).all()
        return [f"{adapter}:{number}" for _, adapter, number in rows]

    def _owns(self, table: type[Pin | Resident]) -> ColumnElement[bool]:
        return col(table.server) == self._server


def oldest_pins_first() -> "Select[Pin, str, int]":
    """Pins of all servers."""
    return _select_servable(Pin).order_by(col(Pin.pinned_at), col(Pin.version_id))


def hottest_first() -> "Select[Resident, str, int]":
    """Residents of all servers."""
    return _select_servable(Resident).order_by(col(Resident.position))


def stored_pin(pin: Pin, adapter: str, number: int) -> StoredPin:
    return StoredPin(pin.version_id, f"{adapter}:{number}", pin.tier, pin.expires_at, pin.replicas)


def has_expired(pin: Pin) -> bool:
    return pin.expires_at is not None and pin.expires_at <= now()


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
