"""Cache events, as observers receive them: each once, after the fact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.errors import EngineError
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)


@dataclass(slots=True, unsafe_hash=True)  # never changed: frozen, it takes four times as long
class LookedUp:
    """A request has its lease. `cause` is that of a miss; None for a hit."""

    version: AdapterVersion
    outcome: CacheOutcome
    cause: MissCause | None
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A request got no lease. A request that its client cancelled is not refused."""

    version: AdapterVersion
    error: EngineError


@dataclass(frozen=True, slots=True)
class LoadStarted:
    """From disk, outside the tiers. `awaited_by` requests; 0: a prefetch."""

    version: AdapterVersion
    awaited_by: int


@dataclass(frozen=True, slots=True)
class MovedIn:
    """It entered a tier. `slot`: the number of the GPU slot, if the engine has reported it."""

    version: AdapterVersion
    transition: Transition
    seconds: float
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class FellBack:
    """It was loaded, but only vLLM's own, slower path can place it in memory."""

    version: AdapterVersion


@dataclass(frozen=True, slots=True)
class LoadFailed:
    version: AdapterVersion
    transition: Transition
    error: EngineError


@dataclass(frozen=True, slots=True)
class Evicted:
    """It left a tier. `room_for`: the adapter that needs its place, if it is a particular one.

    `idle_seconds` since a request last held it, or since it was loaded; `slot`: GPU tier only.
    """

    version: AdapterVersion
    tier: Tier
    reason: EvictionReason
    idle_seconds: float
    room_for: AdapterVersion | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """A hot adapter admits no request until the one that waited too long has its slot.

    `room_for` is None in the copy for callers that may not see that adapter.
    """

    version: AdapterVersion
    room_for: AdapterVersion | None
    slot: int | None


@dataclass(frozen=True, slots=True)
class Pinned:
    version: AdapterVersion
    tier: Tier


@dataclass(frozen=True, slots=True)
class Unpinned:
    version: AdapterVersion
    tier: Tier


@dataclass(frozen=True, slots=True)
class Drifted:
    """The engine and the controller disagree on where these are. Some may be unknown to it."""

    ids: Sequence[VersionId]
    known: Sequence[AdapterVersion]


@dataclass(frozen=True, slots=True)
class EngineLost:
    """Nothing is resident any more, and no request is served until `EngineReady`."""

    error: EngineError


@dataclass(frozen=True, slots=True)
class EngineReady:
    """There is a new engine, and nothing is resident in it yet."""


CacheEvent = (
    LookedUp
    | Refused
    | LoadStarted
    | MovedIn
    | FellBack
    | LoadFailed
    | Evicted
    | Drained
    | Pinned
    | Unpinned
    | Drifted
    | EngineLost
    | EngineReady
)

DecisionKind = Literal[
    "looked_up",
    "refused",
    "load_started",
    "moved_in",
    "fell_back",
    "load_failed",
    "evicted",
    "drained",
    "pinned",
    "unpinned",
    "drifted",
    "engine_lost",
    "engine_ready",
]

KINDS: Mapping[type[CacheEvent], DecisionKind] = {
    LookedUp: "looked_up",
    Refused: "refused",
    LoadStarted: "load_started",
    MovedIn: "moved_in",
    FellBack: "fell_back",
    LoadFailed: "load_failed",
    Evicted: "evicted",
    Drained: "drained",
    Pinned: "pinned",
    Unpinned: "unpinned",
    Drifted: "drifted",
    EngineLost: "engine_lost",
    EngineReady: "engine_ready",
}
