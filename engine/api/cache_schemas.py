"""Cache schemas: request bodies of `/api/v1/cache`, and its responses built from snapshots."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engine.api.visibility import count_hidden, filter_snapshot
from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.operations.pins import ActivePin
from engine.ports import EngineState
from engine.types import Tier
from registry.auth.caller import Caller

MAX_TTL_SECONDS = 10 * 365 * 24 * 3600
MAX_REPLICAS = 10_000


class ResidentRead(BaseModel):
    """One adapter in a tier. `hits` counts the requests that found it in memory.

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
    replica: Annotated[str | None, Field(description="Null if there is only one engine.")] = None


class ReplicaRead(BaseModel):
    """One of several engines. `engine_up` false: it is being replaced."""

    name: str
    slots: int
    host_capacity: int
    host_bytes: int
    host_bytes_limit: int | None
    slots_by_state: dict[str, int]
    waiting: int
    engine_up: bool


class CacheRead(BaseModel):
    """Both tiers, next victim first; `hidden` counts adapters that the caller may not see.

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
    replicas: list[ReplicaRead] = []
    engine_up: bool = True


class EngineTruthRead(BaseModel):
    """What vLLM itself holds: version ids in its own LRU order, replica by replica."""

    gpu: list[int]
    host: list[int]
    in_step_loads: int


class ReferenceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reference: Annotated[str, Field(examples=["support-bot", "support-bot@prod", "support-bot:3"])]


class SpreadBody(ReferenceBody):
    replicas: Annotated[
        int | None,
        Field(strict=True, ge=1, le=MAX_REPLICAS, description="Number of replicas; null: all."),
    ] = None


class PinBody(SpreadBody):
    tier: Annotated[
        Tier, Field(description="`gpu`: keep its slot; `host`: keep it in host memory.")
    ] = Tier.GPU
    ttl_seconds: Annotated[
        float | None,
        Field(strict=True, gt=0, le=MAX_TTL_SECONDS, description="Time to live; null: no end."),
    ] = None


class PinRead(BaseModel):
    reference: str
    tier: Tier
    expires_at: datetime | None
    replicas: int | None = None


class UnpinRead(BaseModel):
    reference: str
    tier: Tier


class PinList(BaseModel):
    items: list[PinRead]


class EvictBody(ReferenceBody):
    wait: Annotated[bool, Field(strict=True, description="Wait until no request uses it.")] = False
    force: Annotated[bool, Field(strict=True, description="End the requests that use it.")] = False


class EvictRead(BaseModel):
    reference: str
    evicted: Annotated[bool, Field(description="False if it was on disk only.")]


class PrefetchRead(BaseModel):
    reference: str


def pin_read(kept: ActivePin) -> PinRead:
    return PinRead(
        reference=kept.version.reference,
        tier=kept.tier,
        expires_at=kept.expires_at,
        replicas=kept.replicas,
    )


def cache_read(snapshots: Mapping[str, CacheSnapshot], caller: Caller) -> CacheRead:
    """All replicas together, as one cache."""
    seen = {name: filter_snapshot(each, caller) for name, each in snapshots.items()}
    every = list(snapshots.values())
    limits = [each.host_bytes_limit for each in every]
    return CacheRead(
        slots=sum(each.slots for each in every),
        host_capacity=sum(each.host_capacity for each in every),
        host_bytes=sum(each.host_bytes for each in every),
        host_bytes_limit=None if None in limits else sum(filter(None, limits)),
        slots_by_state=_add_up(each.slots_by_state() for each in every),
        waiting=sum(each.waiting for each in every),
        loading=[version.reference for each in seen.values() for version in each.loading],
        gpu=[_resident_read(r, name) for name, each in seen.items() for r in each.gpu],
        host=[_resident_read(r, name) for name, each in seen.items() for r in each.host],
        hidden=_add_up(count_hidden(each, seen[name]) for name, each in snapshots.items()),
        replicas=[_replica_read(name, each) for name, each in snapshots.items() if name],
        engine_up=any(each.engine_up for each in every),
    )


def _add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def _replica_read(name: str, snapshot: CacheSnapshot) -> ReplicaRead:
    return ReplicaRead(
        name=name,
        slots=snapshot.slots,
        host_capacity=snapshot.host_capacity,
        host_bytes=snapshot.host_bytes,
        host_bytes_limit=snapshot.host_bytes_limit,
        slots_by_state=snapshot.slots_by_state(),
        waiting=snapshot.waiting,
        engine_up=snapshot.engine_up,
    )


def _resident_read(resident: ResidentAdapter, replica: str) -> ResidentRead:
    return ResidentRead(
        reference=resident.version.reference,
        version_id=resident.version.id,
        rank=resident.version.rank,
        size_bytes=resident.version.size_bytes,
        host_bytes=resident.host_bytes,
        pinned=resident.pinned,
        leases=resident.leases,
        waiting=resident.waiting,
        hits=resident.hits,
        slot=resident.slot,
        idle_seconds=round(resident.idle_seconds, 3),
        leaving=resident.leaving,
        replica=replica or None,
    )


def engine_state_read(states: Iterable[EngineState]) -> EngineTruthRead:
    every = list(states)
    return EngineTruthRead(
        gpu=[version for each in every for version in each.gpu],
        host=[version for each in every for version in each.host],
        in_step_loads=sum(each.in_step_loads for each in every),
    )
