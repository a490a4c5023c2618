"""Decision routes: an adapter explained, the last decisions, and a stream of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.api.decision_schemas import DecisionRead, decision_read
from engine.api.diagnosis import VersionStatus, explain
from engine.api.visibility import (
    Current,
    StreamReader,
    build_event_filter,
    filter_events,
    keep_caller,
)
from engine.operations.control import CacheControl
from engine.ports import Resolver
from engine.telemetry.decision_log import DecisionLog, LoggedEvent
from engine.types import Tier, VersionId
from registry.auth.caller import current_caller
from registry.errors import UnknownAdapter
from registry.events.watermark import wait_for
from registry.http.sse import (
    HEARTBEAT,
    StreamLimiter,
    event_frame,
    opening_frame,
    parse_event_id,
    position_frame,
)

_STREAM = {"content": {"text/event-stream": {}}, "description": "One decision per message."}
_BATCH = 256
_BATCH_SECONDS = 0.1  # events within it are sent in one batch

AdapterName = Annotated[str | None, Query(alias="adapter", max_length=64)]
After = Annotated[int | None, Query(ge=0, lt=2**62, description="Only later ones.")]


class StandingRead(BaseModel):
    """Where the version is now."""

    tier: Tier | Literal["disk"]
    slot: int | None
    pinned: Tier | None
    leases: int
    waiting: int
    loading: bool
    leaving: bool
    idle_seconds: float | None
    hits: int
    next_victim: Annotated[bool, Field(description="It would be evicted next from its tier.")]
    replica: Annotated[str | None, Field(description="Null if there is only one engine.")] = None


class WhyRead(BaseModel):
    """One version explained; `decisions` newest first. `now`: on the nearest replica."""

    reference: str
    adapter: str
    version_id: int
    now: StandingRead
    summary: str
    decisions: list[DecisionRead]
    replicas: Annotated[list[StandingRead], Field(description="On each of several replicas.")] = []


class DecisionList(BaseModel):
    """Oldest first. `oldest_id`: the oldest in the log; earlier ones are dropped."""

    items: list[DecisionRead]
    oldest_id: int | None
    newest_id: int


def create_decision_router(
    cache: CacheControl,
    log: DecisionLog,
    resolver: Resolver,
    limiter: StreamLimiter,
    current: Current = keep_caller,
    describe_last_miss: Callable[[VersionId], str] = lambda version: "",
) -> APIRouter:
    """Routes under `/api/v1/cache`, beside those of `create_cache_router`.

    `describe_last_miss`: what would have made a hit of a version's last miss.
    """
    router = APIRouter(
        prefix="/api/v1/cache",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.get("/why/{reference}")
    async def why(reference: str) -> WhyRead:
        """Where this version is, its last events, and what would help."""
        version = await resolver.find(reference)
        snapshots = await cache.snapshots()
        events = filter_events(list(await cache.about(version)), current_caller())
        explained = explain(version, snapshots, events)
        return WhyRead(
            reference=version.reference,
            adapter=version.adapter,
            version_id=version.id,
            now=_status_read(explained.nearest),
            summary=f"{explained.summary} {describe_last_miss(version.id)}".rstrip(),
            decisions=list(map(decision_read, events)),
            replicas=[_status_read(each) for each in explained.statuses if each.replica],
        )

    @router.get("/decisions")
    async def decisions(
        adapter: AdapterName = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DecisionList:
        """The last decisions, or the first ones `after` an id, if still in the log."""
        caller = current_caller()
        wanted = build_event_filter(caller, adapter)
        found = log.latest(limit, wanted) if after is None else log.after(after, limit, wanted)
        items = list(map(decision_read, filter_events(found, caller)))
        return DecisionList(items=items, oldest_id=log.oldest_id, newest_id=log.newest_id)

    @router.get("/stream", response_class=Response, responses={200: _STREAM})
    async def stream(
        adapter: AdapterName = None,
        after: After = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """Decisions as they are made, as Server-Sent Events.

        Starts after `Last-Event-ID`, else after the decision `after`, else now.
        """
        reader = StreamReader(current_caller(), adapter, current)
        begin = after if last_event_id is None else parse_event_id(last_event_id)
        limiter.check()
        position_ = log.newest_id if begin is None else begin
        return limiter.response(_frames(log, limiter, position_, reader))

    return router


async def _frames(
    log: DecisionLog, limiter: StreamLimiter, after: int, reader: StreamReader
) -> AsyncGenerator[bytes]:
    yield opening_frame(after)
    while not limiter.closed.is_set():
        if not await _news(log, limiter, after):
            # an id would show a tenant how much others do
            yield position_frame(after) if reader.caller.is_platform else HEARTBEAT
            continue
        try:
            await reader.refresh()
        except UnknownAdapter:  # reported when the client reconnects
            return
        while after < log.newest_id:
            newest = log.newest_id
            found = log.after(after, _BATCH, reader.wanted)
            if found:
                yield b"".join(map(_message, filter_events(found, reader.caller)))
            after = found[-1].id if len(found) == _BATCH else newest
        await wait_for(limiter.closed, _BATCH_SECONDS)


async def _news(log: DecisionLog, limiter: StreamLimiter, after: int) -> bool:
    """Wait for a later decision; False at the heartbeat, or when the server stops."""
    waits = [
        asyncio.create_task(log.wait_for_newer(after)),
        asyncio.create_task(limiter.closed.wait()),
    ]
    try:
        seconds = limiter.limits.heartbeat_seconds
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return log.newest_id > after


def _message(logged: LoggedEvent) -> bytes:
    return event_frame(logged.id, decision_read(logged).model_dump_json())


def _status_read(now: VersionStatus) -> StandingRead:
    resident = now.resident
    return StandingRead(
        tier=now.tier or "disk",
        slot=resident.slot if resident else None,
        pinned=resident.pinned if resident else None,
        leases=resident.leases if resident else 0,
        waiting=resident.waiting if resident else 0,
        loading=now.loading,
        leaving=resident.leaving if resident else False,
        idle_seconds=round(resident.idle_seconds, 3) if resident else None,
        hits=resident.hits if resident else 0,
        next_victim=now.next_victim,
        replica=now.replica or None,
    )
