"""SQL of the event log, and of the open transactions that its watermark waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.visibility import Reader
from registry.models import Adapter, Event

# The lock that a trigger takes for every PostgreSQL transaction that writes an event.
_WRITERS = text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 675513693 AND objid = 1738434638 AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Filter of events. `since` is inclusive, `until` exclusive."""

    adapter: str | None = None
    kinds: tuple[str, ...] = ()
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None  # of its own adapters only

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.adapter is not None:
            named = select(col(Adapter.id)).where(col(Adapter.name) == self.adapter)
            found.append(col(Event.adapter_id) == named.scalar_subquery())
        if self.tenant is not None:
            own = select(col(Adapter.id)).where(Reader(self.tenant).owns(col(Adapter.name)))
            found.append(col(Event.adapter_id).in_(own))
        if self.kinds:
            found.append(col(Event.kind).in_(self.kinds))
        if self.actor is not None:
            found.append(col(Event.actor) == self.actor)
        if self.since is not None:
            found.append(col(Event.at) >= self.since)
        if self.until is not None:
            found.append(col(Event.at) < self.until)
        return found


class EventRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def between(
        self,
        after: int,
        up_to: int,
        filters: EventFilter,
        limit: int,
        *,
        newest_first: bool = False,
    ) -> Sequence[Row[Event, str | None]]:
        """Events with `after` < id <= `up_to`, each with its adapter's name."""
        identity = col(Event.id)
        statement = (
            select(Event, col(Adapter.name))
            .outerjoin(Adapter, col(Event.adapter_id) == col(Adapter.id))
            .where(identity > after, identity <= up_to, *filters.conditions())
            .order_by(identity.desc() if newest_first else identity)
            .limit(limit)
        )
        return (await self._session.execute(statement)).all()

    async def newest_id(self) -> int:
        """The highest id that is committed, 0 if there is none."""
        statement = select(func.max(col(Event.id)))
        return (await self._session.execute(statement)).scalar_one() or 0

    async def writers(self) -> frozenset[str]:
        """Open transactions that may have taken ids of events that are not visible yet.

        Always empty on SQLite, where one transaction writes at a time.
        """
        if self._session.get_bind().dialect.name == "sqlite":
            return frozenset()
        return frozenset((await self._session.execute(_WRITERS)).scalars())
