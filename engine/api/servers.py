"""Server routes: what each server on this database has pinned and in host memory."""

from datetime import datetime

from fastapi import APIRouter, Response, status
from pydantic import BaseModel

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.api.cache_schemas import PinRead
from engine.types import Tier
from registry.auth.caller import Caller, actor_name, current_caller
from registry.servers import ServerDirectory, ServerResidency


class ServerRead(BaseModel):
    """A server that has started on this database. `is_this`: the one that was asked.

    `residents`: what it last had in host memory, most recently used first; they and the pins are
    as it recorded them, and its own again after a restart. `base`: its base model.
    """

    name: str
    base: str | None
    started_at: datetime
    is_this: bool
    pins: list[PinRead]
    residents: list[str]


class ServerList(BaseModel):
    items: list[ServerRead]


def create_server_router(servers: ServerDirectory) -> APIRouter:
    """Routes under `/api/v1/cache/servers`."""
    router = APIRouter(
        prefix="/api/v1/cache/servers",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.get("")
    async def list_servers() -> ServerList:
        """Every server on this database with its pins and residents, side by side."""
        caller = current_caller()
        return ServerList(items=[_server_read(each, caller) for each in await servers.all()])

    @router.delete("/{name:path}", status_code=status.HTTP_204_NO_CONTENT)
    async def forget(name: str) -> Response:
        """Remove a server that will not come back, with its pins and residents."""
        await servers.forget(name, actor=actor_name())
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    return router


def _server_read(server: ServerResidency, caller: Caller) -> ServerRead:
    pins = [
        PinRead(
            reference=pin.reference,
            tier=Tier(pin.tier),
            expires_at=pin.expires_at,
            replicas=pin.replicas,
        )
        for pin in server.pins
        if _sees(caller, pin.reference)
    ]
    return ServerRead(
        name=server.name,
        base=server.base,
        started_at=server.started_at,
        is_this=server.is_this,
        pins=pins,
        residents=[each for each in server.residents if _sees(caller, each)],
    )


def _sees(caller: Caller, reference: str) -> bool:
    return caller.sees(reference.partition(":")[0])
