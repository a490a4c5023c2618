"""Routes of prompt sets: list, read, save, rename, delete."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from registry.auth.caller import actor_name, current_caller
from registry.catalog.field_types import Body, Text
from registry.http.problems import ProblemRoute
from registry.prompts.service import PromptSetService
from registry.references import PLATFORM

MAX_PROMPTS, MAX_CHARACTERS, MAX_ALL_CHARACTERS = 100, 8192, 65_536
_ERRORS = (400, 403, 404, 409, 422, 503)
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _check_all(prompts: list[str]) -> list[str]:
    if sum(map(len, prompts)) > MAX_ALL_CHARACTERS:
        raise ValueError(f"all prompts together have at most {MAX_ALL_CHARACTERS} characters")
    return prompts


SetName = Annotated[str, Path(pattern=_NAME, description="Letters, digits, `.`, `_` and `-`.")]
Prompts = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=MAX_CHARACTERS)]],
    Field(min_length=1, max_length=MAX_PROMPTS),
    AfterValidator(_check_all),
]


class PromptSetPut(Body):
    """The prompts of a set, in their order."""

    prompts: Prompts


class PromptSetPatch(Body):
    """Another name for a set."""

    name: Annotated[Text, Field(pattern=_NAME)]


class PromptSetRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    prompts: list[str]
    updated_at: datetime
    updated_by: str


class PromptSetSummary(BaseModel):
    """A set in the list; `number`: of its prompts."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    number: int
    updated_at: datetime
    updated_by: str


class PromptSetList(BaseModel):
    items: list[PromptSetSummary]


def create_prompt_router(sets: PromptSetService) -> APIRouter:
    """Routes under `/api/v1/prompts`: each tenant has its own sets, and so has the platform."""
    router = APIRouter(
        prefix="/api/v1/prompts",
        tags=["registry"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )

    @router.get("")
    async def prompt_sets() -> PromptSetList:
        """Sets of prompts that versions are compared with, by name."""
        found = await sets.all(_owner())
        return PromptSetList(items=[PromptSetSummary.model_validate(line) for line in found])

    @router.get("/{name}")
    async def prompt_set(name: SetName) -> PromptSetRead:
        """One set with its prompts."""
        return PromptSetRead.model_validate(await sets.find(_owner(), name))

    @router.put("/{name}")
    async def save_prompt_set(name: SetName, body: PromptSetPut) -> PromptSetRead:
        """Create a set, or replace its prompts."""
        saved = await sets.save(_owner(), name, body.prompts, actor=actor_name())
        return PromptSetRead.model_validate(saved)

    @router.patch("/{name}")
    async def rename_prompt_set(name: SetName, body: PromptSetPatch) -> PromptSetRead:
        """Give a set another name."""
        renamed = await sets.rename(_owner(), name, body.name, actor=actor_name())
        return PromptSetRead.model_validate(renamed)

    @router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
    async def delete_prompt_set(name: SetName) -> None:
        """Delete a set."""
        await sets.delete(_owner(), name)

    return router


def _owner() -> str:
    return current_caller().tenant or PLATFORM
