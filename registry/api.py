"""The registry over REST, under `/api/v1`: one file of routes for each subject, put together."""

from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from registry.api_adapters import add_adapter_routes
from registry.api_aliases import add_alias_routes
from registry.api_lifecycle import add_lifecycle_routes
from registry.api_versions import add_version_routes
from registry.field_types import Name
from registry.metadata import VersionDetails
from registry.names import parse_reference
from registry.parameters import ACTOR
from registry.problems import ProblemRoute
from registry.schemas import Problem, VersionCreate, VersionRead
from registry.service import RegistryService
from registry.shown_resolver import ShownResolver
from registry.transfer_api import add_transfer_routes
from registry.views import version_read

_ERRORS = (400, 403, 404, 409, 410, 413, 422, 503)


def create_router(service: RegistryService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["registry"],
        route_class=ProblemRoute,
        responses={code: {"model": Problem} for code in _ERRORS},
    )
    _add_publishing(router, service)
    _add_lookups(router, service)
    add_adapter_routes(router, service)
    add_version_routes(router, service)
    add_alias_routes(router, service)
    add_lifecycle_routes(router, service)
    add_transfer_routes(router, service)
    return router


def _add_publishing(router: APIRouter, service: RegistryService) -> None:
    @router.post("/adapters/{name}/versions", status_code=status.HTTP_201_CREATED)
    async def register(name: str, body: VersionCreate, response: Response) -> VersionRead:
        """Verify and publish what PEFT saved; makes the adapter if it is new.

        Answers 200 with the existing version, as it is, if this content was published before.
        """
        registration = await service.register(
            name,
            body.source,
            actor=ACTOR,
            description=body.description,
            details=_details(body),
        )
        if not registration.created:
            response.status_code = status.HTTP_200_OK
        return version_read(registration.published)


def _add_lookups(router: APIRouter, service: RegistryService) -> None:
    resolver = ShownResolver(service.catalog)

    @router.get("/resolve", response_model=VersionRead)
    async def resolve(
        reference: Annotated[str, Query(max_length=256, examples=["support-bot@prod"])],
        user: Annotated[
            Name | None, Query(description="Of a split alias, the version that this user gets.")
        ] = None,
    ) -> Response:
        """The version that a reference means now, if it may be served."""
        content = await resolver.resolve(parse_reference(reference), user)
        return Response(content, media_type="application/json")


def _details(body: VersionCreate) -> VersionDetails:
    return VersionDetails(
        description=body.description,
        tags=body.tags,
        metadata=body.metadata,
        parent=body.parent,
        training_run=body.training_run,
        dataset=body.dataset,
    )
