"""History schemas: the cache at a past time, and its decisions."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from engine.api.decision_schemas import DecisionRead, decision_read
from engine.api.timeline_schemas import UnknownRead, optional_time, unknown_read
from engine.api.visibility import filter_events
from engine.history.places import Place
from engine.history.reader import DecisionPage, PastMoment
from engine.history.replay import Held, More, PastState, PastWait, to_time
from engine.types import CacheOutcome, Tier
from registry.auth.caller import Caller
from registry.cache_history import MICROSECONDS


class PastResidentRead(BaseModel):
    """An adapter that was in a tier. `since`: when it entered it.

    `leases` and `waiting` are of `sampled_at`. `host_bytes` null: not recorded.
    """

    reference: str
    adapter: str
    version_id: int
    rank: int
    size_bytes: int
    host_bytes: int | None
    slot: int | None
    pinned: Tier | None
    since: datetime
    leases: int
    waiting: int
    leaving: bool


class PastLoadRead(BaseModel):
    reference: str
    since: datetime


class PastWaitRead(BaseModel):
    """A request that waited then; until it had its slot, `seconds` after `since`."""

    reference: str
    since: datetime
    until: datetime
    seconds: float
    outcome: CacheOutcome


class PastCacheRead(BaseModel):
    """`hidden` counts what the caller may not see. `waits`: who had a slot later."""

    slots: int
    host_capacity: int
    host_bytes_limit: int | None
    engine_up: bool
    exact: Annotated[bool, Field(description="False: in a second with too many decisions.")]
    sampled_at: Annotated[
        datetime | None,
        Field(description="When leases and waiting requests were looked at last; null: never."),
    ]
    waiting: Annotated[int, Field(description="Requests that waited at `sampled_at`.")]
    gpu: list[PastResidentRead]
    host: list[PastResidentRead]
    loading: list[PastLoadRead]
    waits: Annotated[list[PastWaitRead], Field(description="Who waited then and had a slot later.")]
    hidden: dict[str, int]


class PastRead(BaseModel):
    """The cache of a server at a time; null if nothing is recorded of it: see `unknown`.

    `replicas`: of the fleet of which this one is a replica, those that ran then; else none.
    """

    server: str
    replicas: list[str] = []
    at: datetime
    cache: PastCacheRead | None
    unknown: UnknownRead | None


class MoreRead(BaseModel):
    """Decisions that were not recorded singly. `count` null: some of them are of others."""

    since: datetime
    at: datetime
    count: int | None


class PastDecisionList(BaseModel):
    """Oldest first. `next`: `after` of the next page, null at the end."""

    server: str
    items: list[DecisionRead]
    more: list[MoreRead]
    next: int | None


def past_read(
    server: str, replicas: list[str], at: int, moment: PastMoment, caller: Caller
) -> PastRead:
    state = moment.state
    cache = None if state is None else _cache_read(state, moment, caller)
    unknown = None if moment.unknown is None else unknown_read(moment.unknown)
    return PastRead(server=server, replicas=replicas, at=to_time(at), cache=cache, unknown=unknown)


def _cache_read(state: PastState, moment: PastMoment, caller: Caller) -> PastCacheRead:
    everywhere = list(state.places.values())
    seen = [place for place in everywhere if caller.sees(place.version.adapter)]
    waits = [wait for wait in moment.waits if caller.sees(wait.version.adapter)]
    gpu = [each for place in seen if (each := _resident(place, place.slot_since, state))]
    host = [each for place in seen if (each := _resident(place, place.host_since, state))]
    loading = [
        PastLoadRead(reference=place.version.reference, since=to_time(place.loading_since))
        for place in seen
        if place.loading_since is not None
    ]
    return PastCacheRead(
        slots=state.slots,
        host_capacity=state.host_capacity,
        host_bytes_limit=state.host_bytes_limit,
        engine_up=state.engine_up,
        exact=state.is_exact,
        sampled_at=optional_time(state.sampled_at),
        waiting=state.waiting,
        gpu=sorted(gpu, key=lambda each: (each.slot is None, each.slot, each.since)),
        host=sorted(host, key=lambda each: (each.since, each.reference), reverse=True),
        loading=loading,
        waits=[_wait_read(wait) for wait in sorted(waits, key=lambda each: each.since)],
        hidden={
            "gpu": sum(place.slot_since is not None for place in everywhere) - len(gpu),
            "host": sum(place.host_since is not None for place in everywhere) - len(host),
            "loading": sum(each.loading_since is not None for each in everywhere) - len(loading),
        },
    )


def _resident(place: Place, since: int | None, state: PastState) -> PastResidentRead | None:
    if since is None:
        return None
    version, held = place.version, state.held.get(place.version.id, Held())
    return PastResidentRead(
        reference=version.reference,
        adapter=version.adapter,
        version_id=version.id,
        rank=version.rank,
        size_bytes=version.size_bytes,
        host_bytes=state.host_bytes.get(version.id),
        slot=place.slot,
        pinned=place.pinned,
        since=to_time(since),
        leases=held.leases,
        waiting=held.waiting,
        leaving=held.leaving,
    )


def _wait_read(wait: PastWait) -> PastWaitRead:
    return PastWaitRead(
        reference=wait.version.reference,
        since=to_time(wait.since),
        until=to_time(wait.until),
        seconds=round((wait.until - wait.since) / MICROSECONDS, 6),
        outcome=wait.event.outcome,
    )


def page_read(server: str, page: DecisionPage, caller: Caller) -> PastDecisionList:
    return PastDecisionList(
        server=server,
        items=list(map(decision_read, filter_events(page.events, caller))),
        more=[_more_read(each, caller) for each in page.more],
        next=page.next,
    )


def _more_read(more: More, caller: Caller) -> MoreRead:
    """A count would show a tenant how much others do."""
    count = more.count if caller.is_platform else None
    return MoreRead(since=to_time(more.since), at=to_time(more.at), count=count)
