"""Explanations: cache events as plain sentences, whose subject is the adapter's version."""

from engine.events import (
    CacheEvent,
    Drained,
    Drifted,
    EngineLost,
    EngineReady,
    Evicted,
    FellBack,
    LoadFailed,
    LoadStarted,
    LookedUp,
    MovedIn,
    Pinned,
    Refused,
    Unpinned,
)
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier, Transition

_CAUSES = {
    MissCause.COLD: "first use",
    MissCause.EVICTED: "evicted earlier",
    MissCause.NEW_VERSION: "first use of this version",
    MissCause.RESTART: "in memory before a restart",
}
_REASONS = {
    EvictionReason.CAPACITY: "next in the eviction order",
    EvictionReason.HOST_EVICTED: "because it left host memory",
    EvictionReason.REQUESTED: "requested by an operator",
    EvictionReason.TENANT_LIMIT: "at its tenant's byte limit",
    EvictionReason.DRIFT: "because the engine's state differed",
}


def describe_event(event: CacheEvent, count: int = 1) -> str:  # noqa: PLR0911, PLR0912  # one line for each kind
    """`count`: how many equal events in a row it stands for."""
    match event:
        case LookedUp():
            return _describe_lookup(event, count)
        case Refused(error=error):
            return f"a request was refused: {error.detail}"
        case LoadStarted(awaited_by=0):
            return "load from disk started ahead of any request"
        case LoadStarted(awaited_by=awaited_by):
            return f"load from disk started for {_count_requests(awaited_by)}"
        case MovedIn():
            return _describe_load(event)
        case FellBack():
            return "loaded, but only vLLM's own, slower path can copy it into a slot"
        case LoadFailed(error=error):
            return f"load failed: {error.detail}"
        case Evicted():
            return _describe_eviction(event)
        case Drained(room_for=room_for, slot=slot):
            waiter = "another adapter" if room_for is None else room_for.reference
            drain = f"takes no new requests and leaves {slot_name(slot)} once idle"
            return f"{drain}: {waiter} has waited too long"
        case Pinned(tier=tier):
            return f"pinned in {_tier_name(tier)}"
        case Unpinned(tier=tier):
            return f"unpinned, was pinned in {_tier_name(tier)}"
        case Drifted():
            return "the engine had it in another place than recorded; corrected"
        case EngineLost(error=error):
            return f"no adapter is in memory any more: {error.detail}"
        case EngineReady():
            return "a new engine is ready, with no adapter in memory"


def _describe_lookup(lookup: LookedUp, count: int) -> str:
    waited = f"waited {format_duration(lookup.wait_seconds)}"
    match lookup.outcome:
        case CacheOutcome.GPU_HIT:
            times = "" if count == 1 else f", {count} times"
            return f"hit: it was in a GPU slot{times}"
        case CacheOutcome.HOST_HIT:
            return f"host hit: it was in host memory and {waited} for a GPU slot"
        case CacheOutcome.MISS:
            cause = "" if lookup.cause is None else f" ({_CAUSES[lookup.cause]})"
            return f"miss{cause}: {waited} for disk and a GPU slot"


def _describe_load(move: MovedIn) -> str:
    if move.transition is Transition.DISK_TO_HOST:
        return f"loaded from disk into host memory in {format_duration(move.seconds)}"
    return f"copied into {slot_name(move.slot)} in {format_duration(move.seconds)}"


def _describe_eviction(eviction: Evicted) -> str:
    place = slot_name(eviction.slot) if eviction.tier is Tier.GPU else "host memory"
    room = "" if eviction.room_for is None else f" for {eviction.room_for.reference}"
    idle = format_duration(eviction.idle_seconds)
    return f"evicted from {place}{room}, {_REASONS[eviction.reason]}, idle {idle}"


def _tier_name(tier: Tier) -> str:
    return "a GPU slot" if tier is Tier.GPU else "host memory"


def _count_requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"


def slot_name(slot: int | None) -> str:
    """Slots are numbered as in the engine, from 0."""
    return "its GPU slot" if slot is None else f"GPU slot {slot}"


def format_duration(seconds: float) -> str:
    """Rounded for people."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
