"""Routes of tenants (platform only) and of grants (the adapter's owner)."""

from typing import Annotated

from fastapi import APIRouter, Path, status

from registry.api.access.tenant_schemas import (
    GrantList,
    GrantRead,
    TenantChange,
    TenantCreate,
    TenantPage,
    TenantRead,
    TenantUsagePage,
    TenantUsageRead,
    grant_read,
    tenant_read,
    tenant_usage_read,
)
from registry.api.parameters import Limit, PageToken
from registry.auth.caller import actor_name, current_caller
from registry.auth.keys import KeyService
from registry.http.problems import ProblemRoute
from registry.references import check_name
from registry.tenants.service import TenantService

_ERRORS = (400, 403, 404, 409, 422, 503)

TenantInPath = Annotated[str, Path(max_length=256, examples=["acme"])]


def create_tenant_router(service: TenantService, keys: KeyService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["tenants"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )
    _add_tenant_routes(router, service)
    _add_grant_routes(router, service, keys)
    return router


def _add_tenant_routes(router: APIRouter, service: TenantService) -> None:
    @router.get("/tenants")
    async def tenants(limit: Limit = 100, page_token: PageToken = None) -> TenantPage:
        """All tenants, by name."""
        page = await service.tenants(limit=limit, page_token=page_token)
        return TenantPage(items=list(map(tenant_read, page.items)), next_page_token=page.next_token)

    @router.post("/tenants", status_code=status.HTTP_201_CREATED)
    async def create(body: TenantCreate) -> TenantRead:
        """Create a namespace for adapters."""
        limits = body.model_dump(exclude={"name"})
        return tenant_read(await service.create(body.name, limits, actor=actor_name()))

    @router.get("/tenants/{tenant}")
    async def tenant(tenant: TenantInPath) -> TenantUsageRead:
        """One tenant, its limits and its usage."""
        current_caller().check_tenant(tenant)
        return tenant_usage_read(*await service.usage(tenant))

    @router.get("/usage/tenants")
    async def usages(limit: Limit = 100, page_token: PageToken = None) -> TenantUsagePage:
        """All tenants, by name, with their limits and their usage."""
        page = await service.usages(limit=limit, page_token=page_token)
        items = [tenant_usage_read(*each) for each in page.items]
        return TenantUsagePage(items=items, next_page_token=page.next_token)

    @router.patch("/tenants/{tenant}")
    async def change(tenant: TenantInPath, body: TenantChange) -> TenantRead:
        """Change its limits; omitted ones stay, null removes a limit."""
        limits = body.model_dump(exclude_unset=True)
        return tenant_read(await service.change(tenant, limits, actor=actor_name()))

    @router.delete("/tenants/{tenant}", status_code=status.HTTP_204_NO_CONTENT)
    async def delete(tenant: TenantInPath) -> None:
        """Remove a tenant that has neither adapters nor valid keys."""
        await service.delete(tenant, actor=actor_name())


def _add_grant_routes(router: APIRouter, service: TenantService, keys: KeyService) -> None:
    @router.get("/adapters/{name}/grants")
    async def grants(name: str) -> GrantList:
        """Tenants that may use the adapter, besides its own."""
        current_caller().check_owns(check_name(name))
        return GrantList(items=list(map(grant_read, await service.grants(name))))

    @router.put("/adapters/{name}/grants/{tenant}")
    async def grant(name: str, tenant: TenantInPath) -> GrantRead:
        """Allow a tenant to use and see the adapter; idempotent."""
        current_caller().check_owns(check_name(name))
        made = await service.grant(name, tenant, actor=actor_name())
        keys.forget_grants()
        return grant_read(made)

    @router.delete("/adapters/{name}/grants/{tenant}", status_code=status.HTTP_204_NO_CONTENT)
    async def revoke(name: str, tenant: TenantInPath) -> None:
        """Withdraw a grant, from the next request on; on other servers within a second."""
        current_caller().check_owns(check_name(name))
        await service.revoke(name, tenant, actor=actor_name())
        keys.forget_grants()
