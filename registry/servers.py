"""Servers that share a database: what each has pinned and last had in host memory, side by side."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.client_address import client_address
from registry.cache_history import rows_of
from registry.database.engine import Database
from registry.errors import ServerRunning, UnknownServer
from registry.models import CacheHistory, Event, EventKind, KnownBase, Pin, Resident, Server
from registry.residency import (
    StoredPin,
    has_expired,
    hottest_first,
    oldest_pins_first,
    stored_pin,
)


def default_server_id(database_url: str, port: int) -> str:
    """The server's name if none is declared: stable as long as machine and port are.

    SQLite is shared on one machine only, where the port tells servers apart: a container that is
    created anew, under another host name, then finds its own again.
    """
    host = "localhost" if database_url.startswith("sqlite") else socket.gethostname()
    return f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ServerResidency:
    """What a server has pinned and last had in host memory. `base`: the name of its base model.

    `is_this`: the server that was asked. `residents`: references, most recently used first.
    """

    name: str
    base: str | None
    started_at: datetime
    is_this: bool
    pins: list[StoredPin] = field(default_factory=list)
    residents: list[str] = field(default_factory=list)


class ServerDirectory:
    """Each call is one short session. Raises DatabaseUnavailable. `server`: this one's name."""

    def __init__(self, database: Database, server: str) -> None:
        self._database = database
        self._server = server

    async def all(self) -> list[ServerResidency]:
        """Every server that has started on this database, by name."""
        async with self._database.read_session() as session:
            servers = await _select_servers(session)
            pins = (await session.execute(oldest_pins_first())).all()
            residents = (await session.execute(hottest_first())).all()
        found = {
            row.name: ServerResidency(row.name, base, row.started_at, row.name == self._server)
            for row, base in servers
        }
        for pin, adapter, number in pins:
            if pin.server in found and not has_expired(pin):
                found[pin.server].pins.append(stored_pin(pin, adapter, number))
        for resident, adapter, number in residents:
            if resident.server in found:
                found[resident.server].residents.append(f"{adapter}:{number}")
        return list(found.values())

    async def forget(self, name: str, *, actor: str) -> None:
        """Remove a server that will not come back, with its pins, residents and history.

        Raises UnknownServer; ServerRunning for the one that was asked.
        """
        if name == self._server:
            raise ServerRunning(name)
        event = Event(actor=actor, address=client_address(), kind=EventKind.SERVER_FORGOTTEN)
        event.data = {"server": name}
        async with self._database.transaction(for_catalog=False) as session:
            for table in (Pin, Resident):
                await session.execute(delete(table).where(col(table.server) == name))
            await session.execute(delete(CacheHistory).where(rows_of(name)))
            removal = delete(Server).where(col(Server.name) == name).returning(col(Server.name))
            if (await session.execute(removal)).first() is None:
                raise UnknownServer(name)
            session.add(event)


async def _select_servers(session: AsyncSession) -> "Sequence[Row[Server, str]]":
    """Each with the name of its base model."""
    base = col(KnownBase.id) == col(Server.base_id)
    statement = select(Server, col(KnownBase.name)).outerjoin(KnownBase, base)
    return (await session.execute(statement.order_by(col(Server.name)))).all()
