"""Models of the responses of the routes of cache.

Written by `make reference` from docs/openapi.json.
"""

from typing import Literal

from pydantic import AwareDatetime, Field
from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel
from adaptry.client.models.shared import DecisionRead, Tier


class EngineTruthRead(ResponseModel):
    """What vLLM itself holds: version ids in its own LRU order, replica by replica."""

    gpu: list[int]
    host: list[int]
    in_step_loads: int


class EvictRead(ResponseModel):
    reference: str
    evicted: bool = Field(..., description="False if it was on disk only.")


EvictionPolicy = TypeAliasType(
    "EvictionPolicy", Literal["adaptive", "look-ahead", "lru", "lfu", "s3-fifo", "cost"]
)


class PlaceRatioRead(ResponseModel):
    """What LRU would have hit with so many places in all."""

    places: int
    lru: float


class PrefetchRead(ResponseModel):
    reference: str


class ReplicaRead(ResponseModel):
    """One of several engines. `engine_up` false: it is being replaced."""

    name: str
    slots: int
    host_capacity: int
    host_bytes: int
    host_bytes_limit: int | None
    slots_by_state: dict[str, int]
    waiting: int
    engine_up: bool


class DecisionList(ResponseModel):
    """Oldest first. `oldest_id`: the oldest in the log; earlier ones are dropped."""

    items: list[DecisionRead]
    oldest_id: int | None
    newest_id: int


class PinRead(ResponseModel):
    reference: str
    tier: Tier
    expires_at: AwareDatetime | None
    replicas: int | None = None


class PinList(ResponseModel):
    items: list[PinRead]


class ResidentRead(ResponseModel):
    """
    One adapter in a tier. `hits` counts the requests that found it in memory.

    `size_bytes` is the size of its files, `host_bytes` its size in host memory. `slot` is the
    number of its GPU slot, `idle_seconds` the time since a request last held it. One that is
    `leaving` takes no new requests, and is evicted once it is idle.
    """

    reference: str
    version_id: int
    rank: int
    size_bytes: int
    host_bytes: int
    pinned: Tier | None
    leases: int
    waiting: int
    hits: int
    slot: int | None
    idle_seconds: float
    leaving: bool
    replica: str | None = Field(None, description="Null if there is only one engine.")


class CacheRead(ResponseModel):
    """
    Both tiers, next victim first; `hidden` counts adapters that the caller may not see.

    Totals over all replicas; `replicas` lists each, and is empty if there is only one engine.
    `engine_up` false: no engine serves now.
    """

    slots: int
    host_capacity: int
    host_bytes: int
    host_bytes_limit: int | None
    slots_by_state: dict[str, int]
    waiting: int
    loading: list[str]
    gpu: list[ResidentRead]
    host: list[ResidentRead]
    hidden: dict[str, int]
    replicas: list[ReplicaRead] = Field([], validate_default=True)
    engine_up: bool = True


class ServerRead(ResponseModel):
    """
    A server that has started on this database. `is_this`: the one that was asked.

    `residents`: what it last had in host memory, most recently used first; they and the pins are
    as it recorded them, and its own again after a restart. `base`: its base model.
    """

    name: str
    base: str | None
    started_at: AwareDatetime
    is_this: bool
    pins: list[PinRead]
    residents: list[str]


class ServerList(ResponseModel):
    items: list[ServerRead]


class StandingRead(ResponseModel):
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
    next_victim: bool = Field(..., description="It would be evicted next from its tier.")
    replica: str | None = Field(None, description="Null if there is only one engine.")


class TierPolicyRead(ResponseModel):
    """Hit ratios of one tier over the last lookups, of the live cache and of its shadows."""

    tier: Tier
    places: int
    live: float
    lru: float
    optimum: float = Field(..., description="Of a policy that knows what comes.")
    candidate: float | None = Field(..., description="Null without `--shadow-policy`.")
    places_for_half: int | None = Field(
        ..., description="With so many, LRU would have hit half of the misses that more can mend"
    )
    lookups: int = Field(..., description="So many were counted, the last ones.")
    curve: list[PlaceRatioRead] = Field(
        ..., description="By places, up to as many as would hit anything more."
    )


class PolicyRead(ResponseModel):
    """The eviction policy and its shadows. `mend`: the cheapest change that helps."""

    policy: EvictionPolicy
    candidate: EvictionPolicy | None
    tiers: list[TierPolicyRead] = Field(..., description="Empty before the first lookup.")
    mend: str


class UnpinRead(ResponseModel):
    reference: str
    tier: Tier


class WhyRead(ResponseModel):
    """One version explained; `decisions` newest first. `now`: on the nearest replica."""

    reference: str
    adapter: str
    version_id: int
    now: StandingRead
    summary: str
    decisions: list[DecisionRead]
    replicas: list[StandingRead] = Field(
        [], description="On each of several replicas.", validate_default=True
    )
