"""Routes of API keys; all need the scope `admin`."""

from datetime import timedelta

from fastapi import APIRouter, status

from registry.api.access.key_schemas import (
    KeyChange,
    KeyCreate,
    KeyCreated,
    KeyPage,
    KeyRead,
    KeyRotate,
    key_created,
    key_read,
)
from registry.api.parameters import Limit, PageToken
from registry.auth.caller import actor_name, current_caller
from registry.auth.keys import KeyService
from registry.errors import UnknownTenant
from registry.http.problems import ProblemRoute
from registry.references import tenant_of

_ERRORS = (400, 404, 409, 422, 503)


def create_key_router(service: KeyService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1/keys",
        tags=["keys"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )

    @router.get("")
    async def keys(limit: Limit = 100, page_token: PageToken = None) -> KeyPage:
        """All keys, oldest first, including revoked ones. None is shown in full."""
        tenant = current_caller().tenant
        page = await service.keys(limit=limit, page_token=page_token, tenant=tenant)
        return KeyPage(items=list(map(key_read, page.items)), next_page_token=page.next_token)

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def create(body: KeyCreate) -> KeyCreated:
        """Create a key. Store it: it is shown only here."""
        if not current_caller().owns(body.name):
            raise UnknownTenant(tenant_of(body.name))
        text, key = await service.create(
            body.name,
            body.scopes,
            actor=actor_name(),
            expires_at=body.expires_at,
            limits=body.limits(),
        )
        return key_created(text, key)

    @router.get("/{name}")
    async def key(name: str) -> KeyRead:
        """One key."""
        current_caller().check_key(name)
        return key_read(await service.key(name))

    @router.patch("/{name}")
    async def change(name: str, body: KeyChange) -> KeyRead:
        """Change its limits; omitted ones stay, null removes a limit."""
        current_caller().check_key(name)
        limits = body.model_dump(exclude_unset=True)
        return key_read(await service.change(name, limits, actor=actor_name()))

    @router.post("/{name}/rotate")
    async def rotate(name: str, body: KeyRotate | None = None) -> KeyCreated:
        """Give it a new secret. The old one stays valid for a while."""
        current_caller().check_key(name)
        keep = timedelta(hours=(body or KeyRotate()).keep_hours)
        text, key = await service.rotate(name, keep=keep, actor=actor_name())
        return key_created(text, key)

    @router.delete("/{name}")
    async def revoke(name: str) -> KeyRead:
        """Revoke it. Other servers on this database follow within a second."""
        current_caller().check_key(name)
        return key_read(await service.revoke(name, actor=actor_name()))

    return router
