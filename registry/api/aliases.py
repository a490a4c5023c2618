"""Routes of aliases: move, split, roll back, delete, current state and history."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from registry.aliases.service import ANYWHERE
from registry.api.alias_schemas import AliasList, AliasPage, AliasPut, AliasRead, AliasRollback
from registry.api.parameters import Limit, PageToken
from registry.api.serializers import alias_read
from registry.auth.caller import actor_name
from registry.catalog.field_types import Body, Reason, Timestamp
from registry.service import RegistryService

At = Annotated[
    Timestamp | None,
    Query(description="Its state at this time.", examples=["2026-11-17T14:05:00Z"]),
]
Expected = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Only if it points at this version.")
]
Why = Annotated[Reason | None, Query()]


def add_alias_routes(router: APIRouter, service: RegistryService) -> None:
    _add_changes(router, service)
    _add_deletion(router, service)
    _add_lookups(router, service)


def _add_changes(router: APIRouter, service: RegistryService) -> None:
    @router.put("/adapters/{name}/aliases/{alias}")
    async def set_alias(name: str, alias: str, body: AliasPut) -> AliasRead:
        """Point an alias at a version, or split it over several by weight.

        If there is an engine, it loads the versions before the alias moves. If that fails, the
        alias does not move.
        """
        state = await service.promotion.promote(
            name,
            alias,
            body.by_number(),
            body.preparation(),
            actor=actor_name(),
            expected_version=_expected_version(body, body.expected_version),
            expected_revision=body.expected_revision,
            reason=body.reason,
        )
        return alias_read(name, state)

    @router.post("/adapters/{name}/aliases/{alias}/rollback")
    async def roll_back(name: str, alias: str, body: AliasRollback | None = None) -> AliasRead:
        """Restore an earlier state of an alias with its weights; by default the previous one.

        Its versions are loaded first, as for any move of an alias.
        """
        body = body or AliasRollback()
        state = await service.promotion.roll_back(
            name,
            alias,
            body.preparation(),
            actor=actor_name(),
            to_revision=body.revision,
            to_time=body.at,
            expected_version=_expected_version(body, body.expected_version),
            reason=body.reason,
        )
        return alias_read(name, state)


def _add_deletion(router: APIRouter, service: RegistryService) -> None:
    @router.delete("/adapters/{name}/aliases/{alias}", status_code=status.HTTP_204_NO_CONTENT)
    async def delete_alias(
        name: str, alias: str, expected_version: Expected = None, reason: Why = None
    ) -> None:
        """Delete an alias. Its history stays, and a rollback restores it."""
        await service.aliases.delete(
            name,
            alias,
            actor=actor_name(),
            expected_version=ANYWHERE if expected_version is None else expected_version,
            reason=reason,
        )


def _add_lookups(router: APIRouter, service: RegistryService) -> None:
    catalog = service.alias_catalog

    @router.get("/adapters/{name}/aliases")
    async def aliases(name: str) -> AliasList:
        """Current state of each alias of an adapter."""
        states = await catalog.all(name)
        return AliasList(items=[alias_read(name, state) for state in states])

    @router.get("/adapters/{name}/aliases/{alias}")
    async def alias(name: str, alias: str, at: At = None) -> AliasRead:
        """State of an alias, now or at a time."""
        return alias_read(name, await catalog.state(name, alias, at))

    @router.get("/adapters/{name}/aliases/{alias}/history")
    async def history(
        name: str, alias: str, limit: Limit = 100, page_token: PageToken = None
    ) -> AliasPage:
        """All states of an alias, newest first."""
        page = await catalog.history(name, alias, limit=limit, page_token=page_token)
        items = [alias_read(name, state) for state in page.items]
        return AliasPage(items=items, next_page_token=page.next_token)


def _expected_version(body: Body, given: int | None) -> int | None:
    """Omitted is not the same as null."""
    return given if "expected_version" in body.model_fields_set else ANYWHERE
