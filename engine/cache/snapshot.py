"""Cache snapshot: both tiers as one value, for the REST API, gauges and tests."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.cache.state import CacheState
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, Tier, VersionId


@dataclass(frozen=True, slots=True)
class ResidentAdapter:
    """One adapter in memory. `hits` counts requests that found it there, in either tier.

    `host_bytes`: of all ranks together. `slot`: the number of its GPU slot, once the engine has
    reported it. `idle_seconds` since a request last held it. `leaving`: it admits no request and is
    evicted or drained once it is idle.
    """

    version: AdapterVersion
    host_bytes: int
    leases: int
    waiting: int
    pinned: Tier | None
    hits: int
    slot: int | None
    idle_seconds: float
    leaving: bool


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """Both tiers in the eviction order: the next victim first.

    `oldest_wait_seconds`: of the request that has waited longest; 0 if none waits. `engine_up`
    False: the engine has died or was suspended, and no request is served until one is back.
    """

    slots: int
    host_capacity: int
    host_bytes_limit: int | None
    gpu: tuple[ResidentAdapter, ...]
    host: tuple[ResidentAdapter, ...]
    loading: tuple[AdapterVersion, ...]
    waiting: int
    pinned: Mapping[Tier, int]
    oldest_wait_seconds: float = 0.0
    engine_up: bool = True

    @property
    def host_bytes(self) -> int:
        """Of the whole host tier, all ranks together."""
        return sum(resident.host_bytes for resident in self.host)

    def slots_by_state(self) -> dict[str, int]:
        """Counts each slot once: `leased` before `pinned` before `idle`.

        An empty one is `down` while no engine can use it.
        """
        leased = sum(r.leases > 0 for r in self.gpu)
        pinned = sum(r.leases == 0 and r.pinned is Tier.GPU for r in self.gpu)
        empty = self.slots - len(self.gpu)
        idle = len(self.gpu) - leased - pinned
        free, down = (empty, 0) if self.engine_up else (0, empty)
        return {"free": free, "idle": idle, "leased": leased, "pinned": pinned, "down": down}


def take_snapshot(policy: CachePolicy, state: CacheState) -> CacheSnapshot:
    """Costs one pass over the host tier."""

    residency = policy.residency()
    in_slots = set(residency.gpu)

    def resident(version: VersionId) -> ResidentAdapter:
        leases = policy.lease_count(version)
        return ResidentAdapter(
            version=state.version(version),
            host_bytes=policy.size_of(version),
            leases=leases,
            waiting=policy.wait_queue.count(version),
            pinned=policy.pins.tier_of(version),
            hits=state.hits(version),
            slot=state.slot(version) if version in in_slots else None,
            idle_seconds=0.0 if leases else state.idle_seconds(version),
            leaving=policy.is_leaving(version),
        )

    return CacheSnapshot(
        slots=policy.slots,
        host_capacity=policy.host_capacity,
        host_bytes_limit=policy.host_bytes,
        gpu=tuple(resident(v) for v in residency.gpu),
        host=tuple(resident(v) for v in residency.host),
        loading=tuple(state.version(v) for v in policy.in_transit()),
        waiting=len(policy.wait_queue),
        pinned={tier: policy.pins.count(tier) for tier in Tier},
        oldest_wait_seconds=state.oldest_wait_seconds(),
    )
