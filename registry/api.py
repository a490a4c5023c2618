"""The registry over REST, under `/api/v1`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from registry.models import Adapter, Event, row_id
from registry.names import parse_reference
from registry.pages import MAX_LIMIT
from registry.problems import ProblemRoute
from registry.schemas import (
    AdapterPage,
    AdapterRead,
    AliasList,
    AliasPut,
    AliasRead,
    EventPage,
    EventRead,
    Problem,
    VersionPage,
    VersionRead,
)
from registry.service import ANYWHERE, RegistryService
from registry.values import AliasState, PublishedVersion

ACTOR = "api"  # until there are API keys, every caller is the same

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows per page.")]
PageToken = Annotated[str | None, Query(max_length=256, description="From the page before.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

_ERRORS = (400, 403, 404, 409, 413, 422, 503)


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
    return router


def _add_publishing(router: APIRouter, service: RegistryService) -> None:
    @router.put("/adapters/{name}/aliases/{alias}")
    async def set_alias(name: str, alias: str, body: AliasPut) -> AliasRead:
        """Point an alias at a version: promote it, or roll it back."""
        expected = body.expected_version
        if "expected_version" not in body.model_fields_set:
            expected = ANYWHERE
        state = await service.set_alias(
            name,
            alias,
            body.version,
            actor=ACTOR,
            expected_version=expected,
            reason=body.reason,
        )
        return _alias_read(name, state)


def _add_lookups(router: APIRouter, service: RegistryService) -> None:
    catalog = service.catalog

    @router.get("/adapters")
    async def adapters(limit: Limit = 100, page_token: PageToken = None) -> AdapterPage:
        """All adapters by name."""
        page = await catalog.adapters(limit=limit, page_token=page_token)
        items = [_adapter_read(adapter) for adapter in page.items]
        return AdapterPage(items=items, next_page_token=page.next_token)

    @router.get("/adapters/{name}")
    async def adapter(name: str) -> AdapterRead:
        """One adapter."""
        return _adapter_read(await catalog.adapter(name))

    @router.get("/adapters/{name}/versions")
    async def versions(name: str, limit: Limit = 100, page_token: PageToken = None) -> VersionPage:
        """The versions of an adapter, the oldest first."""
        page = await catalog.versions(name, limit=limit, page_token=page_token)
        items = [version_read(published) for published in page.items]
        return VersionPage(items=items, next_page_token=page.next_token)

    @router.get("/adapters/{name}/versions/{number}")
    async def version(name: str, number: Number) -> VersionRead:
        """One version."""
        return version_read(await catalog.version(name, number))

    @router.get("/adapters/{name}/aliases")
    async def aliases(name: str) -> AliasList:
        """Where each alias of an adapter points."""
        states = await catalog.aliases(name)
        return AliasList(items=[_alias_read(name, state) for state in states])

    @router.get("/adapters/{name}/events")
    async def events(name: str, limit: Limit = 100, page_token: PageToken = None) -> EventPage:
        """What happened to an adapter, the oldest first."""
        page = await catalog.events(name, limit=limit, page_token=page_token)
        items = [_event_read(event) for event in page.items]
        return EventPage(items=items, next_page_token=page.next_token)

    @router.get("/resolve")
    async def resolve(
        reference: Annotated[str, Query(max_length=256, examples=["support-bot@prod"])],
    ) -> VersionRead:
        """The version that a reference means now, if it may be served."""
        resolved = await catalog.resolve(parse_reference(reference))
        return version_read(await catalog.version(resolved.adapter, resolved.number))


def _adapter_read(adapter: Adapter) -> AdapterRead:
    return AdapterRead(
        name=adapter.name, description=adapter.description, created_at=adapter.created_at
    )


def version_read(published: PublishedVersion) -> VersionRead:
    version = published.version
    return VersionRead(
        adapter=published.adapter,
        number=version.number,
        reference=published.reference,
        digest=version.digest,
        state=version.state,
        state_reason=version.state_reason,
        rank=version.rank,
        alpha=version.alpha,
        target_modules=version.target_modules,
        dtype=version.dtype,
        base_model=version.base_model,
        size_bytes=version.size_bytes,
        source=version.source,
        revision=version.revision,
        created_at=version.created_at,
        created_by=version.created_by,
    )


def _alias_read(adapter: str, state: AliasState) -> AliasRead:
    return AliasRead(
        adapter=adapter,
        alias=state.alias.name,
        version=state.number,
        reference=f"{adapter}@{state.alias.name}",
        moved_at=state.alias.moved_at,
    )


def _event_read(event: Event) -> EventRead:
    return EventRead(
        id=row_id(event),
        at=event.at,
        actor=event.actor,
        kind=event.kind,
        alias=event.alias,
        from_version=event.from_version,
        to_version=event.to_version,
        reason=event.reason,
    )
