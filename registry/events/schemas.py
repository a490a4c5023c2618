"""Event schema, the same in REST, the stream and webhooks but for client addresses."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from registry.events.log import RecordedEvent


class EventRead(BaseModel):
    """Who changed what. `uid` is the same in every registry that has imported it.

    `address` is the client's: `local` for a command on the server's machine, null for the server's
    own changes. It is also null where others may read it: in the events of one adapter, in
    webhooks, and for a tenant's keys.
    """

    id: int
    uid: str
    at: datetime
    actor: str
    address: str | None
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


def event_read(recorded: RecordedEvent, *, with_address: bool) -> EventRead:
    event = recorded.event
    return EventRead(
        id=recorded.id,
        uid=event.uid,
        at=event.at,
        actor=event.actor,
        address=event.address if with_address else None,
        kind=event.kind,
        adapter=recorded.adapter,
        alias=event.alias,
        from_version=event.from_version,
        to_version=event.to_version,
        reason=event.reason,
        data=event.data,
        imported=event.imported,
    )
