"""Events as REST, the stream and webhooks tell them: the same in all three."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from registry.event_log import RecordedEvent


class EventRead(BaseModel):
    """Who changed what. `uid` is the same in every registry that has imported it."""

    id: int
    uid: str
    at: datetime
    actor: str
    kind: str
    adapter: str | None
    alias: str | None
    from_version: int | None
    to_version: int | None
    reason: str | None
    data: dict[str, Any]
    imported: bool


class EventPage(BaseModel):
    items: list[EventRead]
    next_page_token: str | None


def event_read(recorded: RecordedEvent) -> EventRead:
    event = recorded.event
    return EventRead(
        id=recorded.id,
        uid=event.uid,
        at=event.at,
        actor=event.actor,
        kind=event.kind,
        adapter=recorded.adapter,
        alias=event.alias,
        from_version=event.from_version,
        to_version=event.to_version,
        reason=event.reason,
        data=event.data,
        imported=event.imported,
    )
