"""Routes of served names: list, set, remove. A path could not hold every name, so none does."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, Field, model_validator

from registry.auth.caller import actor_name
from registry.catalog.field_types import Body, Text, VersionNumber
from registry.models import ServedName
from registry.names.grammar import MAX_WRITTEN
from registry.references import AdapterReference
from registry.service import RegistryService

NameText = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=MAX_WRITTEN,
        description="Any printable text, such as `Org/Adapter-7B`: at most 256 characters.",
        examples=["Org/Adapter-7B"],
    ),
]


class NamePut(Body):
    """What the name means: the adapter as `adapter` does, or one alias or version of it."""

    name: NameText
    alias: Annotated[Text | None, Field(max_length=64)] = None
    version: VersionNumber | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.alias is not None and self.version is not None:
            raise ValueError("give either alias or version")
        return self


class NameRead(BaseModel):
    """A served name of an adapter, and the reference that it stands for."""

    name: str
    adapter: str
    reference: str
    alias: str | None
    version: int | None
    created_at: datetime
    created_by: str


class NameList(BaseModel):
    items: list[NameRead]


def add_name_routes(router: APIRouter, service: RegistryService) -> None:
    @router.get("/adapters/{name}/names")
    async def served_names(name: str) -> NameList:
        """Served names of an adapter."""
        return NameList(items=[_read(name, row) for row in await service.names.all(name)])

    @router.put("/adapters/{name}/names")
    async def set_served_name(name: str, body: NamePut) -> NameRead:
        """Let clients write a name as `model`: for the adapter, or for one alias or version.

        It is a name among those of the adapter's tenant, or of the platform. A name of the same
        adapter changes what it means.
        """
        reference = AdapterReference(name, body.alias, body.version)
        row = await service.names.set(body.name, reference, actor=actor_name())
        return _read(name, row)

    @router.delete("/adapters/{name}/names", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_served_name(name: str, served_name: Annotated[NameText, Query()]) -> None:
        """Remove a served name: requests that write it are for an unknown model from then on."""
        await service.names.remove(name, served_name, actor=actor_name())


def _read(adapter: str, row: ServedName) -> NameRead:
    reference = AdapterReference(adapter, row.alias, row.version)
    return NameRead(
        name=row.name,
        adapter=adapter,
        reference=str(reference),
        alias=row.alias,
        version=row.version,
        created_at=row.created_at,
        created_by=row.created_by,
    )
