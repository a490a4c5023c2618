"""Policy route: the eviction policy, and what others would have hit on the last lookups."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.telemetry.place_curve import place_curve
from engine.telemetry.shadows import CANDIDATE, LRU, OPTIMUM, Shadows, TierRegret, Window
from engine.types import EvictionPolicy, Tier


class PlaceRatioRead(BaseModel):
    """What LRU would have hit with so many places in all."""

    places: int
    lru: float


class TierPolicyRead(BaseModel):
    """Hit ratios of one tier over the last lookups, of the live cache and of its shadows."""

    tier: Tier
    places: int
    live: float
    lru: float
    optimum: Annotated[float, Field(description="Of a policy that knows what comes.")]
    candidate: Annotated[float | None, Field(description="Null without `--shadow-policy`.")]
    places_for_half: Annotated[
        int | None,
        Field(description="With so many, LRU would have hit half of the misses that more can mend"),
    ]
    lookups: Annotated[int, Field(description="So many were counted, the last ones.")]
    curve: Annotated[
        list[PlaceRatioRead],
        Field(description="By places, up to as many as would hit anything more."),
    ]


class PolicyRead(BaseModel):
    """The eviction policy and its shadows. `mend`: the cheapest change that helps."""

    policy: EvictionPolicy
    candidate: EvictionPolicy | None
    tiers: Annotated[list[TierPolicyRead], Field(description="Empty before the first lookup.")]
    mend: str


def create_policy_router(shadows: Shadows) -> APIRouter:
    """Routes under `/api/v1/cache`, beside those of `create_cache_router`."""
    router = APIRouter(
        prefix="/api/v1/cache",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.get("/policy")
    async def policy() -> PolicyRead:
        """The eviction policy, what it and others hit of the last lookups, and what would help."""
        windows = shadows.windows()
        regrets = [window.regret() for window in windows]
        return PolicyRead(
            policy=shadows.policy,
            candidate=shadows.candidate,
            tiers=list(map(_tier_read, windows, regrets)),
            mend=shadows.describe_mend(regrets),
        )

    return router


def _tier_read(window: Window, regret: TierRegret) -> TierPolicyRead:
    ratios = {name: round(ratio, 4) for name, ratio in regret.ratios.items()}
    return TierPolicyRead(
        tier=regret.tier,
        places=regret.places,
        live=round(regret.live, 4),
        lru=ratios[LRU],
        optimum=ratios[OPTIMUM],
        candidate=ratios.get(CANDIDATE),
        places_for_half=regret.places_for_half,
        lookups=len(window.lookups),
        curve=[
            PlaceRatioRead(places=each.places, lru=round(each.lru, 4))
            for each in place_curve(window)
        ],
    )
