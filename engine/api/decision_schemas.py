"""Decision schemas: the REST form of cache events, one flat object for each."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from engine.events import (
    KINDS,
    CacheEvent,
    DecisionKind,
    Drained,
    EngineLost,
    Evicted,
    LoadFailed,
    LookedUp,
    MovedIn,
    Pinned,
    Refused,
    Unpinned,
)
from engine.telemetry.decision_log import LoggedEvent
from engine.telemetry.explain import describe_event
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier, Transition


class DecisionRead(BaseModel):
    """One event of the cache. Fields that do not apply to its kind are null.

    `seconds`: how long a lookup waited or a load took. `for_reference`: the adapter that it made
    room for. `count`: how many equal events in a row this one ends.
    """

    id: int
    at: datetime
    kind: DecisionKind
    adapter: Annotated[str | None, Field(description="Null: it concerns all of them.")]
    reference: str | None
    version_id: int | None
    tier: Tier | None = None
    slot: int | None = None
    outcome: CacheOutcome | None = None
    cause: MissCause | None = None
    reason: EvictionReason | None = None
    seconds: float | None = None
    idle_seconds: float | None = None
    for_reference: str | None = None
    code: str | None = None
    count: int = 1
    replica: Annotated[str | None, Field(description="Null if there is only one engine.")] = None
    sentence: str


def decision_read(logged: LoggedEvent) -> DecisionRead:
    version = logged.version
    return DecisionRead(
        id=logged.id,
        at=logged.at,
        kind=KINDS[type(logged.event)],
        adapter=version.adapter if version else None,
        reference=version.reference if version else None,
        version_id=version.id if version else None,
        count=logged.count,
        replica=logged.replica,
        sentence=describe_event(logged.event, logged.count),
        **_details(logged.event),
    )


def _details(event: CacheEvent) -> dict[str, Any]:
    details: dict[str, Any] = {}
    match event:
        case LookedUp(outcome=outcome, cause=cause, wait_seconds=seconds):
            details = {"outcome": outcome, "cause": cause, "seconds": _round(seconds)}
        case Refused(error=error) | LoadFailed(error=error) | EngineLost(error=error):
            details = {"code": error.code}
        case MovedIn(transition=transition, seconds=seconds, slot=slot):
            tier = Tier.HOST if transition is Transition.DISK_TO_HOST else Tier.GPU
            details = {"tier": tier, "slot": slot, "seconds": _round(seconds)}
        case Evicted():
            details = _eviction(event)
        case Drained(room_for=room_for, slot=slot):
            wanted_by = room_for.reference if room_for else None
            details = {"tier": Tier.GPU, "slot": slot, "for_reference": wanted_by}
        case Pinned(tier=tier) | Unpinned(tier=tier):
            details = {"tier": tier}
    return details


def _eviction(event: Evicted) -> dict[str, Any]:
    return {
        "tier": event.tier,
        "slot": event.slot,
        "reason": event.reason,
        "idle_seconds": _round(event.idle_seconds),
        "for_reference": event.room_for.reference if event.room_for else None,
    }


def _round(seconds: float) -> float:
    return round(seconds, 6)
