"""Records of the history: cache events as short JSON lists, and back."""

from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import EngineError
from engine.events import (
    KINDS,
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
from engine.history.places import Place
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)

SAMPLE, MORE = "sample", "more"
"""Records that are no events: leases at a moment, and what was not recorded singly."""

_MAX_DETAIL = 200
_MAX_DRIFTED = 100
_DIGITS = 6

Record = list[Any]
IndexOf = Callable[[AdapterVersion], int]


def recorded_error(code: str, detail: str) -> EngineError:
    """An error as it was recorded: its code and its sentence."""
    error = EngineError(detail)
    error.code = code
    return error


def encode_event(event: CacheEvent, index: IndexOf) -> Record:
    """`index`: of a version in the names of the row."""
    return [KINDS[type(event)], *_fields(event, index)]


def _fields(event: CacheEvent, index: IndexOf) -> Record:
    match event:
        case EngineReady():
            return []
        case EngineLost(error=error):
            return _error(error)
        case Drifted(ids=ids, known=known):
            return [list(ids[:_MAX_DRIFTED]), [index(each) for each in known[:_MAX_DRIFTED]]]
        case _:
            return [index(event.version), *_own_fields(event, index)]


def _own_fields(event: CacheEvent, index: IndexOf) -> Record:  # noqa: PLR0911  # one line for each kind
    match event:
        case LookedUp(outcome=outcome, cause=cause, wait_seconds=seconds):
            return [outcome, cause, round(seconds, _DIGITS)]
        case Refused(error=error):
            return _error(error)
        case LoadStarted(awaited_by=requests):
            return [requests]
        case MovedIn(transition=transition, seconds=seconds, slot=slot):
            return [transition, round(seconds, _DIGITS), slot]
        case LoadFailed(transition=transition, error=error):
            return [transition, *_error(error)]
        case Evicted(tier=tier, reason=reason, idle_seconds=idle, room_for=room, slot=slot):
            return [tier, reason, round(idle, 3), None if room is None else index(room), slot]
        case Drained(room_for=room, slot=slot):
            return [None if room is None else index(room), slot]
        case Pinned(tier=tier) | Unpinned(tier=tier):
            return [tier]
        case _:
            return []


def _error(error: EngineError) -> Record:
    return [error.code, error.detail[:_MAX_DETAIL]]


def decode_event(record: Sequence[Any], names: Sequence[AdapterVersion]) -> CacheEvent:  # noqa: PLR0911  # one line for each kind
    """`record`: without its time."""
    kind, *fields = record
    match kind:
        case "engine_ready":
            return EngineReady()
        case "engine_lost":
            return EngineLost(recorded_error(*fields))
        case "drifted":
            ids, known = fields
            return Drifted([VersionId(each) for each in ids], [names[each] for each in known])
        case "looked_up":
            index, outcome, cause, seconds = fields
            found = None if cause is None else MissCause(cause)
            return LookedUp(names[index], CacheOutcome(outcome), found, seconds)
        case "moved_in":
            index, transition, seconds, slot = fields
            return MovedIn(names[index], Transition(transition), seconds, slot)
        case "evicted":
            index, tier, reason, idle, room, slot = fields
            wanted_by = None if room is None else names[room]
            version = names[index]
            return Evicted(version, Tier(tier), EvictionReason(reason), idle, wanted_by, slot)
        case "load_failed":
            index, transition, *error = fields
            return LoadFailed(names[index], Transition(transition), recorded_error(*error))
        case _:
            return _decode_short(kind, fields, names)


def _decode_short(kind: str, fields: Record, names: Sequence[AdapterVersion]) -> CacheEvent:
    version = names[fields[0]]
    match kind:
        case "refused":
            return Refused(version, recorded_error(*fields[1:]))
        case "load_started":
            return LoadStarted(version, fields[1])
        case "drained":
            room, slot = fields[1:]
            return Drained(version, None if room is None else names[room], slot)
        case "pinned":
            return Pinned(version, Tier(fields[1]))
        case "unpinned":
            return Unpinned(version, Tier(fields[1]))
        case "fell_back":
            return FellBack(version)
    raise ValueError(f"{kind} is no kind of record")


def encode_place(place: Place, index: IndexOf, at: int) -> Record:
    """Times as milliseconds before `at`: short, and alike. A clock set back has had later ones."""
    sinces = (place.host_since, place.slot_since, place.loading_since)
    ages = [None if since is None else max(at - since, 0) // 1000 for since in sinces]
    owed = [place.host_owed, place.slot_owed] if place.host_owed or place.slot_owed else []
    return [index(place.version), *ages, place.slot, place.pinned, *owed]


def decode_place(record: Sequence[Any], names: Sequence[AdapterVersion], at: int) -> Place:
    index, host, in_slot, loading, slot, pinned, *owed = record
    host_since, slot_since, loading_since = (
        None if age is None else at - age * 1000 for age in (host, in_slot, loading)
    )
    tier = None if pinned is None else Tier(pinned)
    return Place(names[index], host_since, slot_since, slot, tier, loading_since, *owed)


def encode_name(version: AdapterVersion, host_bytes: int | None) -> Record:
    return [
        version.id,
        version.adapter,
        version.number,
        version.size_bytes,
        version.rank,
        host_bytes,
    ]


def decode_name(record: Sequence[Any]) -> AdapterVersion:
    """Without its files, which may be deleted by then."""
    id_, adapter, number, size_bytes, rank = record[:5]
    return AdapterVersion(VersionId(id_), adapter, number, "", "", rank, size_bytes)
