"""Routes of export and import: the whole registry as one tar."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from registry.auth.caller import actor_name
from registry.errors import InvalidArchive
from registry.service import RegistryService
from registry.transfer.plan import ImportOptions
from registry.transfer.report import ImportReport

TAR_TYPE = "application/x-tar"
TAR = {"content": {TAR_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


class OtherAliases(StrEnum):
    """Handling of aliases that point elsewhere here."""

    KEEP = "keep"
    REPLACE = "replace"


class InvalidVersions(StrEnum):
    """Handling of versions that this server can't serve."""

    REFUSE = "refuse"
    SKIP = "skip"


class ImportRead(BaseModel):
    """What was changed, or would be.

    `further_numbers`: by each new one, the version that it means: its content was imported under
    several numbers. `orphans`: versions whose parent is not here. `skipped`: reasons by reference.
    `remarks`: by the code of an inspection's remark, the new versions that have it (100 of them at
    most).
    """

    dry_run: bool
    adapters_added: int
    versions_added: int
    versions_unchanged: int
    further_numbers: dict[str, str]
    aliases_set: int
    aliases_kept: list[str]
    events_added: int
    orphans: list[str]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]


def add_transfer_routes(router: APIRouter, service: RegistryService) -> None:
    @router.get("/export", response_class=Response, responses={200: TAR})
    async def export(
        adapter: Annotated[
            list[str] | None, Query(max_length=1000, description="Only these adapters.")
        ] = None,
    ) -> Response:
        """Adapters, versions, aliases, history, events and files as a tar."""
        chunks = await service.exporter.export(adapter or None)
        headers = {"content-disposition": 'attachment; filename="adaptry-export.tar"'}
        return StreamingResponse(chunks, media_type=TAR_TYPE, headers=headers)

    @router.post("/import", openapi_extra={"requestBody": {"required": True, **TAR}})
    async def import_(
        request: Request,
        aliases: OtherAliases = OtherAliases.KEEP,
        invalid: InvalidVersions = InvalidVersions.REFUSE,
        dry_run: bool = False,
    ) -> ImportRead:
        """Import what `/export` returned, here or elsewhere: all of it, or nothing.

        Existing versions stay as they are, so that a repeated import changes nothing.
        """
        options = ImportOptions(
            replace_aliases=aliases is OtherAliases.REPLACE,
            skip_invalid=invalid is InvalidVersions.SKIP,
            dry_run=dry_run,
        )
        report = await service.importer.receive(_body(request), options, actor=actor_name())
        return _import_read(report, dry_run)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise InvalidArchive("archive_incomplete", "the archive was cut off on its way") from None


def _import_read(report: ImportReport, dry_run: bool) -> ImportRead:
    return ImportRead(
        dry_run=dry_run,
        adapters_added=report.adapters_added,
        versions_added=report.versions_added,
        versions_unchanged=report.versions_unchanged,
        further_numbers=report.further_numbers,
        aliases_set=report.aliases_set,
        aliases_kept=report.aliases_kept,
        events_added=report.events_added,
        orphans=report.orphans,
        skipped=report.skipped,
        remarks=report.remarks,
    )
