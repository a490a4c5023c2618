"""Router of the registry under `/api/v1`: the routes of all subjects."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from registry.api.aliases import add_alias_routes
from registry.api.catalog import add_catalog_routes
from registry.api.inspection import add_base_routes, add_inspection
from registry.api.lifecycle import add_lifecycle_routes
from registry.api.names import add_name_routes
from registry.api.resolve_json import JsonResolver
from registry.api.transfer import add_transfer_routes
from registry.auth.visibility import check_named_adapter
from registry.catalog.field_types import Name, Text
from registry.catalog.schemas import VersionRead
from registry.http.problems import ProblemRoute
from registry.inspection.base_identity import parse_identity
from registry.names.resolver import NameResolver
from registry.service import RegistryService

_ERRORS = (400, 403, 404, 409, 410, 413, 422, 503, 504)


def create_router(service: RegistryService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["registry"],
        route_class=ProblemRoute,
        dependencies=[Depends(check_named_adapter)],
        responses={code: {} for code in _ERRORS},
    )
    add_inspection(router, service)
    _add_lookups(router, service)
    add_catalog_routes(router, service)
    add_alias_routes(router, service)
    add_name_routes(router, service)
    add_lifecycle_routes(router, service)
    add_base_routes(router, service)
    add_transfer_routes(router, service)
    return router


def _add_lookups(router: APIRouter, service: RegistryService) -> None:
    names, resolver = NameResolver(service.catalog), JsonResolver(service.catalog)

    @router.get("/resolve", response_model=VersionRead)
    async def resolve(
        reference: Annotated[str, Query(max_length=256, examples=["support-bot@prod"])],
        user: Annotated[
            Name | None, Query(description="For a split alias: the version that this user gets.")
        ] = None,
        base: Annotated[
            Text | None,
            Query(
                max_length=400,
                pattern=r"^.{1,256}#[0-9a-f]{64}$",
                description="Of an engine elsewhere: its base model, as `NAME#DIGEST`. "
                "It is told only what is bound to that one.",
            ),
        ] = None,
    ) -> Response:
        """The version that a reference or a served name resolves to, if it is servable."""
        parsed = await names.reference(reference)
        identity = None if base is None else parse_identity(base)
        content = await resolver.resolve(parsed, user, identity)
        return Response(content, media_type="application/json")
