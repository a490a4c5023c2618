"""Diagnosis: why an adapter is where it is, and what would help, from snapshots and events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.events import Evicted, LoadFailed, Refused
from engine.telemetry.decision_log import LoggedEvent
from engine.telemetry.explain import format_duration, slot_name
from engine.types import AdapterVersion, EvictionReason, Tier

_RECENT = timedelta(minutes=5)
_OFTEN = 3
_SHOWN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of one version. `tier` None: on disk only. `resident` None: in no tier."""

    version: AdapterVersion
    tier: Tier | None
    resident: ResidentAdapter | None
    loading: bool
    next_victim: bool
    replica: str = ""

    @property
    def steps_away(self) -> int:
        """Distance from a slot."""
        return 2 if self.tier is None else 1 if self.tier is Tier.HOST else 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """`statuses`: one for each replica."""

    statuses: Sequence[VersionStatus]
    summary: str

    @property
    def nearest(self) -> VersionStatus:
        return min(self.statuses, key=lambda each: each.steps_away)


def explain(
    version: AdapterVersion, snapshots: Mapping[str, CacheSnapshot], events: Sequence[LoggedEvent]
) -> Explanation:
    """Explain one version, on one engine or on several. `events`: newest first.

    Raises ValueError without any snapshot.
    """
    statuses = [locate(version, each, name) for name, each in snapshots.items()]
    nearest = min(statuses, key=lambda each: each.steps_away)
    others = [each for each in statuses if each is not nearest and each.resident is not None]
    locations = [_describe_location(each) for each in (nearest, *others)]
    parts = [
        *locations,
        _describe_kind(version),
        _describe_failure(events),
        _advise(snapshots[nearest.replica], events),
    ]
    return Explanation(statuses, " ".join(part for part in parts if part))


def _describe_kind(version: AdapterVersion) -> str:
    if version.invocation_tokens is None:
        return ""
    tokens = ", ".join(map(str, version.invocation_tokens[:_SHOWN_TOKENS]))
    more = ", …" if len(version.invocation_tokens) > _SHOWN_TOKENS else ""
    return (
        f"It acts from its invocation on (tokens {tokens}{more}): what a prompt has before that "
        "is shared with the base model."
    )


def locate(version: AdapterVersion, snapshot: CacheSnapshot, replica: str = "") -> VersionStatus:
    """Where it is, and whether it would be evicted next from its tier."""
    resident = next((r for r in snapshot.host if r.version.id == version.id), None)
    in_slot = any(r.version.id == version.id for r in snapshot.gpu)
    tier = None if resident is None else Tier.GPU if in_slot else Tier.HOST
    loading = any(v.id == version.id for v in snapshot.loading)
    victim = next((r for r in _eviction_candidates(snapshot, tier)), None)
    is_next = victim is not None and victim.version.id == version.id
    return VersionStatus(version, tier, resident, loading, is_next, replica)


def _eviction_candidates(snapshot: CacheSnapshot, tier: Tier | None) -> list[ResidentAdapter]:
    if tier is None:
        return []
    in_slots = {r.version.id for r in snapshot.gpu}
    if tier is Tier.GPU:
        return [r for r in snapshot.gpu if not r.leases and r.pinned is not Tier.GPU]
    outside = [r for r in snapshot.host if r.version.id not in in_slots]
    return [r for r in outside if r.pinned is None and not r.waiting]


def _describe_location(now: VersionStatus) -> str:
    reference, resident = now.version.reference, now.resident
    at = f" on {now.replica}" if now.replica else ""
    if now.loading:
        return f"{reference} is being loaded{at}."
    if resident is None:
        return f"{reference} is on disk only: its next request has to load it."
    place = slot_name(resident.slot) if now.tier is Tier.GPU else "host memory"
    return f"{reference} is in {place}{at}, {', '.join(_describe_state(now, resident))}."


def _describe_state(now: VersionStatus, resident: ResidentAdapter) -> list[str]:
    marks = [f"leased by {resident.leases}" if resident.leases else _idle(resident)]
    if resident.pinned is not None:
        marks.append(f"pinned in the {resident.pinned} tier")
    if resident.waiting:
        marks.append(f"awaited by {resident.waiting}")
    if resident.leaving:
        marks.append("leaving")
    if now.next_victim:
        marks.append("the next to be evicted")
    return marks


def _idle(resident: ResidentAdapter) -> str:
    return f"idle {format_duration(resident.idle_seconds)}"


def _describe_failure(events: Sequence[LoggedEvent]) -> str:
    """The newest failure, unless something succeeded after it."""
    for logged in events:
        match logged.event:
            case LoadFailed(error=error) | Refused(error=error):
                return f"Its last request failed at {logged.at:%H:%M:%S} UTC: {error.detail}."
            case Evicted():
                continue
            case _:
                return ""
    return ""


def _advise(snapshot: CacheSnapshot, events: Sequence[LoggedEvent]) -> str:
    if not events:
        return ""
    newest = events[0].at
    for tier, places in _limits(snapshot):
        evictions = _recent_evictions(events, tier, newest)
        if len(evictions) >= _OFTEN:
            span = format_duration((newest - evictions[-1]).total_seconds())
            often = f"It was evicted from the {tier} tier {len(evictions)} times in {span}"
            return f"{often}: more adapters are in use than {places}."
    return ""


def _limits(snapshot: CacheSnapshot) -> list[tuple[Tier, str]]:
    """The host tier first: evicted from there, it must be loaded from disk."""
    slots = f"the {snapshot.slots} GPU slots hold. Pin it, or raise --max-loras"
    host = f"the {snapshot.host_capacity} host places hold. Pin it, or raise --max-cpu-loras"
    if snapshot.host_bytes_limit is not None:
        host += " and ADAPTRY_HOST_CACHE_BYTES"
    return [(Tier.HOST, host), (Tier.GPU, slots)]


def _recent_evictions(
    events: Sequence[LoggedEvent], tier: Tier, newest: datetime
) -> list[datetime]:
    """When it was evicted for others, newest first."""
    return [
        logged.at
        for logged in events
        if isinstance(logged.event, Evicted)
        and logged.event.tier is tier
        and logged.event.reason is EvictionReason.CAPACITY
        and newest - logged.at < _RECENT
    ]
