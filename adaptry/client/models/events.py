"""Models of the responses of the routes of events.

Written by `make reference` from docs/openapi.json.
"""

from typing import Any

from pydantic import AwareDatetime

from adaptry.client.models.response import ResponseModel


class EventRead(ResponseModel):
    """
    Who changed what. `uid` is the same in every registry that has imported it.

    `address` is the client's: `local` for a command on the server's machine, null for the server's
    own changes. It is also null where others may read it: in the events of one adapter, in
    webhooks, and for a tenant's keys.
    """

    id: int
    uid: str
    at: AwareDatetime
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


class EventPage(ResponseModel):
    items: list[EventRead]
    next_page_token: str | None
