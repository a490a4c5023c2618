"""Cache routes: the state of the cache; pin, unpin, prefetch and evict by reference."""

from fastapi import APIRouter, status

from engine.api.cache_schemas import (
    CacheRead,
    EngineTruthRead,
    EvictBody,
    EvictRead,
    PinBody,
    PinList,
    PinRead,
    PrefetchRead,
    SpreadBody,
    UnpinRead,
    cache_read,
    engine_state_read,
    pin_read,
)
from engine.api.visibility import check_ownership
from engine.errors import EngineError
from engine.operations.control import CacheControl, EvictionLog, record_eviction
from engine.ports import Resolver
from registry.auth.caller import actor_name, current_caller
from registry.http.problems import ProblemRoute

ERRORS = (400, 404, 409, 410, 422, 429, 503)


class EngineProblemRoute(ProblemRoute):
    """Renders the engine's errors as problem details too."""

    errors = (*ProblemRoute.errors, EngineError)


def create_cache_router(cache: CacheControl, resolver: Resolver, log: EvictionLog) -> APIRouter:
    """Routes under `/api/v1/cache`. References are resolved as in `model`."""
    router = APIRouter(
        prefix="/api/v1/cache",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.get("")
    async def show() -> CacheRead:
        """Which adapters are in a slot or in host memory, leased, pinned or loading."""
        return cache_read(await cache.snapshots(), current_caller())

    @router.get("/engine")
    async def engine() -> EngineTruthRead:
        """Read back what vLLM holds, and compare it; a difference counts as drift."""
        return engine_state_read((await cache.engine_states()).values())

    @router.post("/pins", status_code=status.HTTP_201_CREATED)
    async def pin(body: PinBody) -> PinRead:
        """Load the adapter and pin it; responds once it is in its tier.

        Pinning it again replaces its tier and time.
        """
        check_ownership(current_caller(), body.reference)
        version = await resolver.resolve(body.reference)
        kept = await cache.pin(
            version, body.tier, body.ttl_seconds, body.replicas, actor=actor_name()
        )
        return pin_read(kept)

    @router.get("/pins")
    async def list_pins() -> PinList:
        """The pins, oldest first."""
        pins = await cache.pins()
        seen = filter(lambda kept: current_caller().sees(kept.version.adapter), pins)
        return PinList(items=[pin_read(kept) for kept in seen])

    @router.delete("/pins/{reference}")
    async def unpin(reference: str) -> UnpinRead:
        """Allow it to be evicted again."""
        check_ownership(current_caller(), reference)
        version = await resolver.find(reference)
        tier = await cache.unpin(version, actor=actor_name())
        return UnpinRead(reference=version.reference, tier=tier)

    @router.post("/prefetch", status_code=status.HTTP_202_ACCEPTED)
    async def prefetch(body: SpreadBody) -> PrefetchRead:
        """Load it into host memory in the background, without taking a slot."""
        check_ownership(current_caller(), body.reference)
        version = await resolver.resolve(body.reference)
        await cache.prefetch(version, body.replicas)
        return PrefetchRead(reference=version.reference)

    @router.post("/evict")
    async def evict(body: EvictBody) -> EvictRead:
        """Evict it from both tiers. Refused while it is pinned.

        Also refused while requests hold it or wait for it, unless `wait` waits for the last lease,
        or `force` ends those requests. No request gets a new lease until it is evicted.
        """
        check_ownership(current_caller(), body.reference)
        version = await resolver.find(body.reference)
        evicted = await cache.evict(version, wait=body.wait, force=body.force)
        if evicted:
            await record_eviction(log, version, force=body.force)
        return EvictRead(reference=version.reference, evicted=evicted)

    return router
