"""Event log reader: pages for look-ups, ranges for streams."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row

from registry.catalog.repository import RegistryRepository, get_adapter
from registry.database.engine import Database
from registry.database.pagination import Page, number_of, token_after
from registry.events.repository import EventFilter, EventRepository
from registry.events.watermark import EventWatermark
from registry.models import MAX_BIG_ID, Event, row_id

_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event and the name of its adapter, if it is about one."""

    event: Event
    adapter: str | None

    @property
    def id(self) -> int:
        return row_id(self.event)


class EventLog:
    """Events up to the watermark; each call is one short session."""

    def __init__(self, database: Database, watermark: EventWatermark) -> None:
        self._database = database
        self.watermark = watermark

    async def page(
        self,
        filters: EventFilter,
        *,
        limit: int,
        page_token: str | None = None,
        newest_first: bool = False,
    ) -> Page[RecordedEvent]:
        """One page, oldest first. Raises InvalidReference, UnknownAdapter, InvalidPageToken."""
        edge = number_of(page_token, MAX_BIG_ID)
        up_to = await self.watermark.catch_up(_SETTLE_SECONDS)
        if newest_first:
            after, up_to = 0, min(up_to, edge - 1 if edge else MAX_BIG_ID)
        else:
            after = edge
        async with self._database.read_session() as session:
            if filters.adapter is not None:
                await get_adapter(RegistryRepository(session), filters.adapter)
            rows = await EventRepository(session).between(
                after, up_to, filters, limit + 1, newest_first=newest_first
            )
        found = recorded_events(rows[:limit])
        return Page(found, token_after(found[-1].id) if len(rows) > limit else None)

    async def between(
        self, after: int, up_to: int, filters: EventFilter, limit: int
    ) -> list[RecordedEvent]:
        """The next events in (`after`, `up_to`]. Raises DatabaseUnavailable."""
        async with self._database.read_session() as session:
            return recorded_events(
                await EventRepository(session).between(after, up_to, filters, limit)
            )


def recorded_events(rows: Sequence[Row[Event, str | None]]) -> list[RecordedEvent]:
    return [RecordedEvent(event, adapter) for event, adapter in rows]
