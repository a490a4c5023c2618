"""Routes of the event log: pages, export, and a resumable stream."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from registry.api.parameters import Limit, PageToken
from registry.auth.caller import current_caller
from registry.catalog.field_types import Text, Timestamp
from registry.events.export import EventExport
from registry.events.hash_chain import FIRST_HASH
from registry.events.log import EventLog
from registry.events.repository import EventFilter
from registry.events.schemas import EventPage, event_read
from registry.events.stream import EventStreams
from registry.http.problems import ProblemRoute
from registry.http.sse import parse_event_id
from registry.models import EventKind
from registry.references import check_name

_ERRORS = (400, 403, 404, 422, 503)
_LINES = {"content": {"application/x-ndjson": {}}, "description": "One event in each line."}
_STREAM = {"content": {"text/event-stream": {}}, "description": "One event per message."}

AdapterName = Annotated[str | None, Query(alias="adapter", max_length=64)]
Kinds = Annotated[list[EventKind] | None, Query(alias="kind", description="Any of these.")]
Actor = Annotated[Text | None, Query(max_length=256)]
Since = Annotated[Timestamp | None, Query(description="From this moment on.")]
Until = Annotated[Timestamp | None, Query(description="Before this moment.")]
After = Annotated[int, Query(ge=0, lt=2**62, description="Only later events than this one.")]
Chain = Annotated[str, Query(pattern="^[0-9a-f]{64}$", description="The hash in the line before.")]


def create_event_router(log: EventLog, streams: EventStreams) -> APIRouter:
    """All routes, for inclusion in any FastAPI application. `log.watermark` must run."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["events"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )
    _add_pages(router, log)
    _add_export(router, EventExport(log))
    _add_stream(router, streams)
    return router


def _add_pages(router: APIRouter, log: EventLog) -> None:
    @router.get("/events")
    async def events(
        adapter: AdapterName = None,
        kind: Kinds = None,
        actor: Actor = None,
        since: Since = None,
        until: Until = None,
        newest_first: bool = False,
        limit: Limit = 100,
        page_token: PageToken = None,
    ) -> EventPage:
        """Events of the registry, oldest first."""
        filters = _filter(adapter, kind, actor, since, until)
        with_address = current_caller().is_platform
        return await _page(
            filters, limit, page_token, newest_first=newest_first, with_address=with_address
        )

    @router.get("/adapters/{name}/events")
    async def adapter_events(
        name: str, limit: Limit = 100, page_token: PageToken = None
    ) -> EventPage:
        """Events of an adapter, oldest first."""
        return await _page(_filter(name), limit, page_token, with_address=False)

    async def _page(
        filters: EventFilter,
        limit: int,
        page_token: str | None,
        *,
        newest_first: bool = False,
        with_address: bool,
    ) -> EventPage:
        page = await log.page(
            filters, limit=limit, page_token=page_token, newest_first=newest_first
        )
        items = [event_read(recorded, with_address=with_address) for recorded in page.items]
        return EventPage(items=items, next_page_token=page.next_token)


def _add_export(router: APIRouter, exported: EventExport) -> None:
    @router.get("/events/export", response_class=Response, responses={200: _LINES})
    async def export(
        adapter: AdapterName = None,
        kind: Kinds = None,
        since: Since = None,
        until: Until = None,
        after: After = 0,
        chain: Chain = FIRST_HASH,
    ) -> Response:
        """All events in the order of their ids, one per line.

        Each line ends with a hash of itself and of the line before. To continue an
        earlier export, give the `id` of its last line as `after`, and its `hash` as `chain`.
        """
        filters = _filter(adapter, kind, None, since, until)
        lines = await exported.lines(filters, after=after, chain=chain)
        return StreamingResponse(lines, media_type="application/x-ndjson")


def _add_stream(router: APIRouter, streams: EventStreams) -> None:
    @router.get("/events/stream", response_class=Response, responses={200: _STREAM})
    async def stream(
        adapter: AdapterName = None,
        kind: Kinds = None,
        actor: Actor = None,
        after: Annotated[int | None, Query(ge=0, lt=2**62, description="Resume here.")] = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """Events as they happen, as Server-Sent Events.

        It begins after `Last-Event-ID`, else after the event `after` (0: with the first), else now.
        """
        filters = _filter(adapter, kind, actor)
        begin = after if last_event_id is None else parse_event_id(last_event_id)
        return await streams.response(filters, begin)


def _filter(
    adapter: str | None,
    kinds: list[EventKind] | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> EventFilter:
    """Filter limited to what the caller owns. Raises InvalidReference, UnknownAdapter, NotOwner."""
    caller = current_caller()
    if adapter is not None:
        caller.check_owns(check_name(adapter))
    return EventFilter(adapter, tuple(kinds or ()), actor, since, until, caller.tenant)
