"""Routes of rates: what keys and tenants have used of their limits per minute."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from registry.api.parameters import Limit, PageToken
from registry.auth.caller import current_caller
from registry.database.pagination import Page
from registry.http.problems import ProblemRoute
from registry.rates.usage import RateUsage, SubjectUsage

_ERRORS = (400, 403, 422, 503)


class UsedRateRead(BaseModel):
    """`used` may exceed `limit`: tokens are known at the end only."""

    limit: int
    used: Annotated[int, Field(description="In the last minute.")]
    remaining: int
    reset_seconds: Annotated[
        float, Field(description="Until all of it is free again, without further requests.")
    ]


class RateUsageRead(BaseModel):
    """What a key or a tenant has used of its limits per minute; null: no limit."""

    name: str
    requests: UsedRateRead | None
    tokens: UsedRateRead | None
    bytes: UsedRateRead | None


class RateUsagePage(BaseModel):
    items: list[RateUsageRead]
    next_page_token: str | None


def create_rate_router(usage: RateUsage) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1/rates",
        tags=["keys"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )

    @router.get("/keys")
    async def rates_of_keys(limit: Limit = 100, page_token: PageToken = None) -> RateUsagePage:
        """What each key with a limit has used of it, the oldest first.

        By all servers that count together; else by the answering one.
        """
        tenant = current_caller().tenant
        page = await usage.of_keys(limit=limit, page_token=page_token, tenant=tenant)
        return _page(page)

    @router.get("/tenants")
    async def rates_of_tenants(limit: Limit = 100, page_token: PageToken = None) -> RateUsagePage:
        """What each tenant with a limit has used of it, by name; a tenant sees its own.

        By all servers that count together; else by the answering one.
        """
        tenant = current_caller().tenant
        page = await usage.of_tenants(limit=limit, page_token=page_token, tenant=tenant)
        return _page(page)

    return router


def _page(page: Page[SubjectUsage]) -> RateUsagePage:
    return RateUsagePage(items=list(map(_read, page.items)), next_page_token=page.next_token)


def _read(usage: SubjectUsage) -> RateUsageRead:
    rates = {
        unit: UsedRateRead(
            limit=rate.most,
            used=rate.used,
            remaining=max(0, rate.most - rate.used),
            reset_seconds=rate.reset_seconds,
        )
        for unit, rate in usage.rates.items()
    }
    return RateUsageRead(
        name=usage.name,
        requests=rates.get("requests"),
        tokens=rates.get("tokens"),
        bytes=rates.get("bytes"),
    )
