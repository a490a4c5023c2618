"""Routes of adapters: list and search, show, describe."""

from typing import Annotated

from fastapi import APIRouter, Depends

from registry.api.parameters import Limit, PageToken, QueryOwner, QueryTags, QueryText
from registry.api.serializers import adapter_read
from registry.auth.caller import acting, current_caller
from registry.auth.visibility import reader_of
from registry.catalog.schemas import AdapterPage, AdapterPatch, AdapterRead
from registry.search.filters import AdapterFilter
from registry.service import RegistryService


def adapter_filter(
    tags: QueryTags = [],  # noqa: B006  # FastAPI makes each request its own
    owner: QueryOwner = None,
    text: QueryText = None,
) -> AdapterFilter:
    return AdapterFilter(tags=tags, owner=owner, text=text, reader=reader_of(current_caller()))


def add_adapter_routes(router: APIRouter, service: RegistryService) -> None:
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

    @router.get("/adapters/{name}")
    async def adapter(name: str) -> AdapterRead:
        """One adapter."""
        return adapter_read(await catalog.adapter(name))

    @router.patch("/adapters/{name}")
    async def update_adapter(name: str, body: AdapterPatch) -> AdapterRead:
        """Change what is said of an adapter; what is left out stays."""
        fields = body.model_dump(exclude_unset=True)
        return adapter_read(await service.metadata.update_adapter(name, fields, actor=acting()))
