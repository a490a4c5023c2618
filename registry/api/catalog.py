"""Routes of adapters and versions: list, search, show, update."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from registry.api.parameters import (
    Limit,
    Number,
    Offset,
    PageToken,
    QueryAsOf,
    QueryBase,
    QueryBaseModel,
    QueryMemory,
    QueryModules,
    QueryNames,
    QueryOwner,
    QueryParent,
    QueryParts,
    QueryRank,
    QueryState,
    QueryStates,
    QueryTags,
    QueryTenant,
    QueryText,
)
from registry.api.serializers import adapter_read, overview_item, version_read
from registry.api.transfer import TAR, TAR_TYPE
from registry.auth.caller import actor_name, current_caller
from registry.auth.visibility import check_parent, reader_of
from registry.catalog.overview_filter import OverviewFilter
from registry.catalog.overview_order import AdapterSort
from registry.catalog.overview_schemas import OverviewPage
from registry.catalog.schemas import (
    AdapterPage,
    AdapterPatch,
    AdapterRead,
    VersionPage,
    VersionPatch,
    VersionRead,
)
from registry.search.filters import AdapterFilter, VersionFilter
from registry.service import RegistryService


def adapter_filter(
    tags: QueryTags = [],  # noqa: B006  # FastAPI copies it per request
    owner: QueryOwner = None,
    text: QueryText = None,
    base: QueryBase = None,
) -> AdapterFilter:
    reader = reader_of(current_caller())
    return AdapterFilter(tags=tags, owner=owner, text=text, base=base, reader=reader)


def version_filter(
    tags: QueryTags = [],  # noqa: B006  # FastAPI makes each request its own
    target_modules: QueryModules = [],  # noqa: B006
    states: QueryStates = [],  # noqa: B006
    base_model: QueryBaseModel = None,
    base: QueryBase = None,
    rank_min: QueryRank = None,
    rank_max: QueryRank = None,
    text: QueryText = None,
    parent: QueryParent = None,
) -> VersionFilter:
    return VersionFilter(
        tags=tags,
        target_modules=target_modules,
        states=states,
        base_model=base_model,
        base=base,
        rank_min=rank_min,
        rank_max=rank_max,
        text=text,
        parent=parent,
        reader=reader_of(current_caller()),
    )


def overview_filter(
    text: QueryParts = None,
    tags: QueryTags = [],  # noqa: B006
    owner: QueryOwner = None,
    base: QueryBase = None,
    state: QueryState = None,
    tenant: QueryTenant = None,
    names: QueryNames = [],  # noqa: B006
    memory: QueryMemory = None,
) -> OverviewFilter:
    reader = reader_of(current_caller())
    return OverviewFilter(text, tags, owner, base, state, tenant, names, memory, reader)


Filters = Annotated[VersionFilter, Depends(version_filter)]


def add_catalog_routes(router: APIRouter, service: RegistryService) -> None:
    _add_adapters(router, service)
    _add_versions(router, service)


def _add_adapters(router: APIRouter, service: RegistryService) -> None:
    catalog = service.catalog

    @router.get("/adapters")
    async def adapters(
        filters: Annotated[AdapterFilter, Depends(adapter_filter)],
        limit: Limit = 100,
        page_token: PageToken = None,
    ) -> AdapterPage:
        """Adapters by name: all, or those that meet every condition."""
        page = await catalog.adapters(filters, limit=limit, page_token=page_token)
        items = [adapter_read(adapter) for adapter in page.items]
        return AdapterPage(items=items, next_page_token=page.next_token)

    @router.get("/overview")
    async def overview(
        filters: Annotated[OverviewFilter, Depends(overview_filter)],
        sort: AdapterSort = AdapterSort.NAME,
        descending: bool = False,
        offset: Offset = 0,
        limit: Limit = 100,
        as_of: QueryAsOf = None,
    ) -> OverviewPage:
        """A table of adapters with their aliases and default versions, sorted by any column.

        Sorting by `memory`, `asked` or `hits`, and the filter `memory`, need the scope `operate`.

        Any part of it at once, with the number of all: for a table that is scrolled. To read all
        adapters, follow the pages of `/adapters`: no row is repeated or missed there.
        """
        part = await service.overview.page(
            filters, sort, descending=descending, offset=offset, limit=limit, as_of=as_of
        )
        items = [overview_item(row) for row in part.rows]
        return OverviewPage(items=items, total=part.total, as_of=part.as_of)

    @router.get("/adapters/{name}")
    async def adapter(name: str) -> AdapterRead:
        """One adapter."""
        return adapter_read(await catalog.adapter(name))

    @router.patch("/adapters/{name}")
    async def update_adapter(name: str, body: AdapterPatch) -> AdapterRead:
        """Change an adapter's metadata; omitted fields stay.

        Only the platform's keys may set `serve_chat_template`: a template is a program.
        """
        fields = body.model_dump(exclude_unset=True)
        if fields.get("serve_chat_template"):
            current_caller().check_platform()
        return adapter_read(await service.metadata.update_adapter(name, fields, actor=actor_name()))


def _add_versions(router: APIRouter, service: RegistryService) -> None:
    catalog = service.catalog

    @router.get("/versions")
    async def search(
        filters: Filters, limit: Limit = 100, page_token: PageToken = None
    ) -> VersionPage:
        """Versions of all adapters that meet every condition, in the order of registration."""
        page = await catalog.versions(filters, limit=limit, page_token=page_token)
        items = [version_read(published) for published in page.items]
        return VersionPage(items=items, next_page_token=page.next_token)

    @router.get("/adapters/{name}/versions")
    async def versions(
        name: str, filters: Filters, limit: Limit = 100, page_token: PageToken = None
    ) -> VersionPage:
        """The versions of an adapter, oldest first: all, or those that meet every condition."""
        page = await catalog.versions_of(name, filters, limit=limit, page_token=page_token)
        items = [version_read(published) for published in page.items]
        return VersionPage(items=items, next_page_token=page.next_token)

    @router.get("/adapters/{name}/versions/{number}")
    async def version(name: str, number: Number) -> VersionRead:
        """One version."""
        return version_read(await catalog.version(name, number))

    @router.get(
        "/adapters/{name}/versions/{number}/files", response_class=Response, responses={200: TAR}
    )
    async def files(name: str, number: Number) -> Response:
        """The version's files as a tar, to serve it elsewhere."""
        current_caller().check_owns(name)  # a grant to use an adapter does not include its weights
        chunks = await service.files.tar(name, number)
        headers = {"content-disposition": f'attachment; filename="{name}-{number}.tar"'}
        return StreamingResponse(chunks, media_type=TAR_TYPE, headers=headers)

    @router.patch("/adapters/{name}/versions/{number}")
    async def update_version(name: str, number: Number, body: VersionPatch) -> VersionRead:
        """Change a version's metadata; its content never changes."""
        check_parent(body.parent)
        fields = body.model_dump(exclude_unset=True)
        return version_read(
            await service.metadata.update_version(name, number, fields, actor=actor_name())
        )
