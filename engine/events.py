"""What happens in the cache, as its observers are told of it: each is said once, when it is so."""

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


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A request has its lease. `cause` is that of a miss; None for a hit."""

    version: AdapterVersion
    outcome: CacheOutcome
    cause: MissCause | None
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A request got no lease. What a client gave up itself is not refused."""

    version: AdapterVersion
    error: EngineError


@dataclass(frozen=True, slots=True)
class LoadStarted:
    """From disk, beside the tiers. `awaited_by` requests; 0: somebody foresaw them."""

    version: AdapterVersion
    awaited_by: int


@dataclass(frozen=True, slots=True)
class MovedIn:
    """`slot`: the number of the GPU slot, where the engine has said it."""

    version: AdapterVersion
    transition: Transition
    seconds: float
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class FellBack:
    """It was loaded, but only vLLM's own, slower path can place it."""

    version: AdapterVersion


@dataclass(frozen=True, slots=True)
class LoadFailed:
    version: AdapterVersion
    transition: Transition
    error: EngineError


@dataclass(frozen=True, slots=True)
class Evicted:
    """It left a tier. `room_for` is whom it had to leave for, if for one in particular.

    `idle_seconds` since a request last held it, or since it came in; `slot` of the GPU tier only.
    """

    version: AdapterVersion
    tier: Tier
    reason: EvictionReason
    idle_seconds: float
    room_for: AdapterVersion | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """A hot adapter admits nobody until the one that waited too long has had its turn.

    `room_for` is None for whoever may not know of that one.
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
    """The engine held these elsewhere than the controller thought. Some may be unknown to it."""

    ids: Sequence[VersionId]
    known: Sequence[AdapterVersion]


@dataclass(frozen=True, slots=True)
class EngineLost:
    """Nothing is resident any more, and nobody is served until `EngineReady`."""

    error: EngineError


@dataclass(frozen=True, slots=True)
class EngineReady:
    """There is a new engine, which holds nothing yet."""


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
