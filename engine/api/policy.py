"""Policy route: the eviction policy, and what others would have hit on the last lookups."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.telemetry.shadows import CANDIDATE, LRU, OPTIMUM, Shadows, TierRegret
from engine.types import EvictionPolicy, Tier


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
        regrets = [window.regret() for window in shadows.windows()]
        return PolicyRead(
            policy=shadows.policy,
            candidate=shadows.candidate,
            tiers=list(map(_tier_read, regrets)),
            mend=shadows.describe_mend(regrets),
        )

    return router


def _tier_read(regret: TierRegret) -> TierPolicyRead:
    ratios = {name: round(ratio, 4) for name, ratio in regret.ratios.items()}
    return TierPolicyRead(
        tier=regret.tier,
        places=regret.places,
        live=round(regret.live, 4),
        lru=ratios[LRU],
        optimum=ratios[OPTIMUM],
        candidate=ratios.get(CANDIDATE),
        places_for_half=regret.places_for_half,
    )
