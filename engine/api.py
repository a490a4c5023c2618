"""The cache over REST: who is where, and pin, unpin, prefetch and evict by reference."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from engine.controller import CacheController
from engine.errors import EngineError
from engine.ports import EngineTruth
from engine.snapshot import CacheSnapshot, ResidentAdapter
from engine.types import AdapterVersion, Tier
from registry.problems import ProblemRoute, problem_response


class Resolver(Protocol):
    async def resolve(self, text: str) -> AdapterVersion: ...


class ResidentRead(BaseModel):
    """One adapter in a tier. `hits` counts the requests that found it in memory."""

    reference: str
    version_id: int
    rank: int
    size_bytes: int
    pinned: Tier | None
    leases: int
    waiting: int
    hits: int


class CacheRead(BaseModel):
    """Both tiers in LRU order: the next victim first."""

    slots: int
    host_capacity: int
    host_bytes: int
    slots_by_state: dict[str, int]
    waiting: int
    loading: list[str]
    gpu: list[ResidentRead]
    host: list[ResidentRead]


class EngineTruthRead(BaseModel):
    """What vLLM itself holds: version ids in its own LRU order."""

    gpu: list[int]
    host: list[int]
    in_step_loads: int


class ReferenceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reference: Annotated[str, Field(examples=["support-bot", "support-bot@prod", "support-bot:3"])]


class PinBody(ReferenceBody):
    tier: Annotated[Tier, Field(description="`gpu` keeps its slot, `host` its host memory.")] = (
        Tier.GPU
    )


class PinRead(BaseModel):
    reference: str
    tier: Tier


class EvictRead(BaseModel):
    reference: str
    evicted: Annotated[bool, Field(description="False if it was on disk only.")]


class PrefetchRead(BaseModel):
    reference: str


class EngineProblemRoute(ProblemRoute):
    """Renders the engine's errors as problem details too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except EngineError as error:
                return problem_response(
                    request,
                    status=error.status,
                    code=error.code,
                    title=type(error).__name__,
                    detail=error.detail,
                )

        return handler


def create_cache_router(controller: CacheController, resolver: Resolver) -> APIRouter:
    """Routes under `/api/v1/cache`. References are resolved as in `model`."""
    router = APIRouter(prefix="/api/v1/cache", tags=["cache"], route_class=EngineProblemRoute)

    @router.get("")
    async def show() -> CacheRead:
        """Who is in a slot, who in host memory, who is leased, pinned or on the way."""
        return _cache_read(controller.snapshot())

    @router.get("/engine")
    async def engine() -> EngineTruthRead:
        """Read back what vLLM holds and compare; a difference counts as drift."""
        return _truth_read(await controller.reconcile())

    @router.post("/pins", status_code=status.HTTP_201_CREATED)
    async def pin(body: PinBody) -> PinRead:
        """Bring the adapter in and keep it; answers when it is there."""
        version = await resolver.resolve(body.reference)
        await controller.pin(version, body.tier)
        return PinRead(reference=version.reference, tier=body.tier)

    @router.delete("/pins/{reference}")
    async def unpin(reference: str) -> PinRead:
        """Let it be evicted again."""
        version = await resolver.resolve(reference)
        return PinRead(reference=version.reference, tier=controller.unpin(version))

    @router.post("/prefetch", status_code=status.HTTP_202_ACCEPTED)
    async def prefetch(body: ReferenceBody) -> PrefetchRead:
        """Load it into host memory in the background, without taking a slot."""
        version = await resolver.resolve(body.reference)
        controller.prefetch(version)
        return PrefetchRead(reference=version.reference)

    @router.post("/evict")
    async def evict(body: ReferenceBody) -> EvictRead:
        """Out of both tiers. Refused while it is leased, awaited or pinned."""
        version = await resolver.resolve(body.reference)
        evicted = controller.evict(version)
        return EvictRead(reference=version.reference, evicted=evicted)

    return router


def _cache_read(snapshot: CacheSnapshot) -> CacheRead:
    return CacheRead(
        slots=snapshot.slots,
        host_capacity=snapshot.host_capacity,
        host_bytes=snapshot.host_bytes,
        slots_by_state=snapshot.slots_by_state(),
        waiting=snapshot.waiting,
        loading=[version.reference for version in snapshot.loading],
        gpu=[_resident_read(resident) for resident in snapshot.gpu],
        host=[_resident_read(resident) for resident in snapshot.host],
    )


def _resident_read(resident: ResidentAdapter) -> ResidentRead:
    return ResidentRead(
        reference=resident.version.reference,
        version_id=resident.version.id,
        rank=resident.version.rank,
        size_bytes=resident.version.size_bytes,
        pinned=resident.pinned,
        leases=resident.leases,
        waiting=resident.waiting,
        hits=resident.hits,
    )


def _truth_read(truth: EngineTruth) -> EngineTruthRead:
    return EngineTruthRead(
        gpu=list(truth.gpu), host=list(truth.host), in_step_loads=truth.in_step_loads
    )
