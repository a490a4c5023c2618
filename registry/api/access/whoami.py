"""Route of the caller: who a key belongs to and what it may do, without its secret."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from registry.api.access.key_schemas import key_read
from registry.auth.caller import ANONYMOUS, current_caller
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.http.problems import ProblemRoute


class CallerRead(BaseModel):
    """`prefix` begins every text of the key. Where no keys are required there is none."""

    name: str
    tenant: str | None
    scopes: list[Scope]
    prefix: str | None
    expires_at: datetime | None


def create_whoami_router(service: KeyService) -> APIRouter:
    router = APIRouter(
        prefix="/api/v1",
        tags=["keys"],
        route_class=ProblemRoute,
        responses={code: {} for code in (404, 503)},
    )

    @router.get("/whoami")
    async def whoami() -> CallerRead:
        """The caller: its name, tenant, scopes, and when its key expires."""
        caller = current_caller()
        key = None if caller is ANONYMOUS else key_read(await service.key(caller.name))
        return CallerRead(
            name=caller.name,
            tenant=caller.tenant,
            scopes=sorted(caller.scopes),
            prefix=None if key is None else key.prefix,
            expires_at=None if key is None else key.expires_at,
        )

    return router
