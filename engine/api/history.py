"""History routes: the cache at a past time, its counts over a range, and its decisions."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.api.history_schemas import PastDecisionList, PastRead, page_read, past_read
from engine.api.timeline_schemas import HistoryRead, bucket_read, unknown_read
from engine.api.visibility import build_event_filter
from engine.errors import TimeOutOfRange
from engine.history.reader import HistoryReader
from engine.history.replay import to_microseconds, to_time
from registry.auth.caller import Caller, current_caller
from registry.cache_history import MICROSECONDS
from registry.references import check_name

DASHBOARD = "adaptry-cache"
"""Uid of the dashboard that the repository's `grafana/` builds."""

_DAY = 86_400 * MICROSECONDS
_SHORTEST = 60  # seconds of a bucket: what is counted is counted by the minute
_BUCKETS = 288

ServerName = Annotated[
    str | None,
    Query(
        max_length=256,
        description="A server on this database, or a replica of one "
        "[default: this one, or the first of its replicas].",
    ),
]
AdapterName = Annotated[str | None, Query(alias="adapter", max_length=64)]
Begin = Annotated[
    AwareDatetime | None, Query(alias="from", description="Default: a day before `to`.")
]
End = Annotated[AwareDatetime | None, Query(alias="to", description="Default: now.")]


def create_history_router(
    history: HistoryReader, grafana_url: str | None = None, clock: Callable[[], float] = time.time
) -> APIRouter:
    """Routes under `/api/v1/cache/history`. `clock`: seconds since 1970."""
    router = APIRouter(
        prefix="/api/v1/cache/history",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )
    grafana = None if grafana_url is None else f"{grafana_url.rstrip('/')}/d/{DASHBOARD}"

    def now() -> int:
        return int(clock() * MICROSECONDS)

    def check_range(begin: AwareDatetime | None, end: AwareDatetime | None) -> tuple[int, int]:
        current = now()
        until = current if end is None else to_microseconds(end)
        since = until - _DAY if begin is None else to_microseconds(begin)
        history.check_time(until, current)
        if since >= until:
            raise TimeOutOfRange("`from` is not before `to`")
        if begin is not None:
            history.check_time(since, current)
        return since, min(until, current)

    @router.get("")
    async def timeline(
        server: ServerName = None,
        begin: Begin = None,
        end: End = None,
        adapter: AdapterName = None,
        buckets: Annotated[int, Query(ge=1, le=1440, description="At most so many.")] = _BUCKETS,
    ) -> HistoryRead:
        """Hits, misses, loads, evictions and waits over time, and which times are not known."""
        caller = current_caller()
        sees = _filter_adapters(caller, adapter)
        chosen = await history.choose(server)
        since, until = check_range(begin, end)
        seconds = max(_SHORTEST, -(-(until - since) // (buckets * MICROSECONDS)))
        seconds = -(-seconds // _SHORTEST) * _SHORTEST
        counted, unknown = await history.timeline(
            chosen, since, until, seconds * MICROSECONDS, sees
        )
        oldest = await history.oldest(chosen)
        return HistoryRead(
            server=chosen,
            servers=await history.servers(),
            replicas=await history.replicas(chosen, since, until),
            keep_hours=history.keep_seconds / 3600,
            oldest=None if oldest is None else to_time(oldest),
            since=to_time(since),
            until=to_time(until),
            bucket_seconds=seconds,
            buckets=list(map(bucket_read, counted)),
            unknown=list(map(unknown_read, unknown)),
            grafana=grafana,
        )

    @router.get("/state")
    async def state(
        at: Annotated[AwareDatetime, Query(description="With its zone.")],
        server: ServerName = None,
    ) -> PastRead:
        """What was in slots and in host memory then, what was being loaded, and who waited."""
        chosen, current = await history.choose(server), now()
        moment = to_microseconds(at)
        history.check_time(moment, current)
        moment = min(moment, current)
        replicas = await history.replicas(chosen, moment, moment + 1)
        found = await history.moment(chosen, moment)
        return past_read(chosen, replicas, moment, found, current_caller())

    @router.get("/decisions")
    async def decisions(
        server: ServerName = None,
        begin: Begin = None,
        end: End = None,
        adapter: AdapterName = None,
        after: Annotated[int | None, Query(ge=0, lt=2**62, description="`next` of a page.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> PastDecisionList:
        """Recorded decisions of a time: misses, waits, loads, evictions, pins, refusals.

        Hits that did not wait are only counted.
        """
        caller = current_caller()
        accepts = build_event_filter(caller, adapter)
        chosen = await history.choose(server)
        since, until = check_range(begin, end)
        since = since if after is None else max(since, after)
        page = await history.decisions(chosen, since, until, limit, accepts)
        return page_read(chosen, page, caller)

    return router


def _filter_adapters(caller: Caller, adapter: str | None) -> Callable[[str], bool] | None:
    """None: all of them. Raises InvalidReference, UnknownAdapter."""
    if adapter is not None:
        caller.check_sees(check_name(adapter))
        return lambda name: name == adapter
    return None if caller.is_platform else caller.sees
