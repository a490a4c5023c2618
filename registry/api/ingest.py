"""Routes of registration: synchronous, or as a job that can be followed and cancelled."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from registry.api.job_schemas import MAX_CANCELLED, JobPage, JobRead, JobsCancelled, job_read
from registry.api.parameters import Limit, Number, PageToken
from registry.api.serializers import version_read
from registry.auth.caller import actor_name, current_caller
from registry.auth.visibility import check_named_adapter, check_parent
from registry.catalog.field_types import Text
from registry.catalog.metadata import details_of
from registry.catalog.schemas import VersionCreate, VersionRead
from registry.catalog.types import Registration
from registry.errors import InvalidUpload, UnknownJob
from registry.http.problems import ProblemRoute
from registry.ingest.repository import JobFilter
from registry.ingest.service import IngestService
from registry.ingest.upload_service import UPLOAD, Upload
from registry.models.job import Job, JobState
from registry.sources.base import MAX_FIELDS_BYTES
from registry.sources.beside import TRAINING_BYTES_HEADER
from registry.validation import explain

MAX_WAIT_SECONDS = 60

Wait = Annotated[
    float | None,
    Query(
        ge=0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Seconds to wait for the version; 0 answers with the job.",
    ),
]
JobAdapter = Annotated[Text | None, Query(max_length=64)]
JobTenant = Annotated[Text | None, Query(max_length=64, description="For the platform.")]

_ERRORS = (400, 403, 404, 409, 413, 422, 429, 501, 503, 504)
_JSON_FIELDS = frozenset({"tags", "metadata"})
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": VersionCreate.model_json_schema()},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"files": _FILES}}},
        },
    }
}


def create_ingest_router(ingest: IngestService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1",
        route_class=ProblemRoute,
        dependencies=[Depends(check_named_adapter)],
        responses={code: {} for code in _ERRORS},
    )
    _add_registering(router, ingest)
    _add_jobs(router, ingest)
    return router


def _add_registering(router: APIRouter, ingest: IngestService) -> None:
    @router.post(
        "/adapters/{name}/versions",
        tags=["registry"],
        status_code=status.HTTP_201_CREATED,
        responses={200: {"model": VersionRead}, 202: {"model": JobRead}},
        openapi_extra=_BODY,
    )
    async def register(
        name: str, request: Request, response: Response, wait: Wait = None
    ) -> VersionRead | JobRead:
        """Verify and publish what PEFT saved; creates the adapter if it is new.

        The body is JSON that names a source, or a form with the adapter's files or one archive of
        them. The answer is the version if it is published within `wait` seconds: 201, or 200 with
        the existing version if this content was published before. Otherwise it is 202 and the job.
        Without `wait`, a small folder on the server and a small upload are waited for, and
        nothing else.
        """
        content_type = request.headers.get("content-type", "")
        if content_type.lower().startswith("multipart/"):
            upload = _upload(name, content_type, request)
            return _answer(await ingest.receive(upload, wait_seconds=wait), response)
        body = _version_create(await _json_body(request))
        check_parent(body.parent)
        done = await ingest.register(
            name,
            body.source,
            actor=actor_name(),
            request=body.model_dump(mode="json", exclude={"source"}),
            within=current_caller().tenant,
            wait_seconds=wait,
        )
        return _answer(done, response)


def _add_jobs(router: APIRouter, ingest: IngestService) -> None:
    @router.get("/jobs", tags=["jobs"])
    async def jobs(
        limit: Limit = 100,
        page_token: PageToken = None,
        state: JobState | None = None,
        adapter: JobAdapter = None,
        tenant: JobTenant = None,
    ) -> JobPage:
        """Registration jobs, newest first."""
        wanted = _visible(state, adapter, tenant)
        page = await ingest.jobs(wanted, limit=limit, page_token=page_token)
        return JobPage(items=list(map(job_read, page.items)), next_page_token=page.next_token)

    async def only_post(_: Request) -> Response:
        """Or the route of one job would read `cancel` as its number."""
        raise HTTPException(405, headers={"Allow": "POST"})

    router.add_route(f"{router.prefix}/jobs/cancel", only_post, ["GET"], include_in_schema=False)

    @router.get("/jobs/{number}", tags=["jobs"])
    async def job(number: Number) -> JobRead:
        """Progress or outcome of a job."""
        return job_read(await _own(number))

    @router.post("/jobs/cancel", tags=["jobs"])
    async def cancel_some(
        state: Annotated[JobState | None, Query(description="Only of these.")] = None,
        adapter: JobAdapter = None,
        tenant: JobTenant = None,
    ) -> JobsCancelled:
        """Request the cancellation of all unfinished jobs that match, up to 500 at a time.

        `more`: send it again, there may be others. Jobs whose cancellation was requested before
        do not count.
        """
        wanted = _visible(state, adapter, tenant)
        count = await ingest.cancel_some(wanted, actor=actor_name(), limit=MAX_CANCELLED)
        return JobsCancelled(cancelled=count, more=count == MAX_CANCELLED)

    @router.post("/jobs/{number}/cancel", tags=["jobs"])
    async def cancel(number: Number) -> JobRead:
        """Request cancellation. A running job becomes `cancelled` once its work has stopped."""
        await _own(number)
        return job_read(await ingest.cancel(number, actor=actor_name()))

    async def _own(number: int) -> Job:
        job = await ingest.job(number)
        if not current_caller().owns(job.adapter):
            raise UnknownJob(number)
        return job


def _visible(state: JobState | None, adapter: str | None, tenant: str | None) -> JobFilter:
    """Those of the caller's tenant; another's don't exist for it."""
    own = current_caller().tenant
    if own is None or tenant in (None, own):
        return JobFilter(state, adapter, own or tenant)
    return JobFilter(state, "", own)


def _answer(done: Registration | Job, response: Response) -> VersionRead | JobRead:
    if isinstance(done, Job):
        response.status_code = status.HTTP_202_ACCEPTED
        response.headers["location"] = f"/api/v1/jobs/{done.number}"
        return job_read(done)
    if not done.created:
        response.status_code = status.HTTP_200_OK
    return version_read(done.published)


async def _json_body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in _body(request):
        content += chunk
        if len(content) > MAX_FIELDS_BYTES:
            raise InvalidUpload(
                f"JSON over {MAX_FIELDS_BYTES} bytes is not read: send files as multipart/form-data"
            )
    return bytes(content)


def _version_create(content: bytes) -> VersionCreate:
    try:
        return VersionCreate.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(
            [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        ) from None


def _upload(name: str, content_type: str, request: Request) -> Upload:
    return Upload(
        adapter=name,
        content_type=content_type,
        size_bytes=_number(request.headers.get("content-length", "")),
        training_bytes=_number(request.headers.get(TRAINING_BYTES_HEADER, "")) or 0,
        body=_body(request),
        read_fields=_read_fields,
        actor=actor_name(),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise InvalidUpload("the client left before all was here") from None


def _read_fields(fields: dict[str, str]) -> dict[str, Any]:
    """The JSON body's fields except `source`; fields that are not strings are JSON."""
    if "source" in fields:
        raise InvalidUpload("source: the files themselves are the source")
    try:
        given = {name: _value(name, text) for name, text in fields.items()}
        body = VersionCreate.model_validate({**given, "source": UPLOAD})
    except ValidationError as error:
        problems = (f"{p['loc'][0]}: {explain(p)}" for p in error.errors())
        raise InvalidUpload("; ".join(problems)) from None
    check_parent(body.parent)
    request = body.model_dump(mode="json", exclude={"source"})
    details_of(request)
    return request


def _value(name: str, text: str) -> Any:
    if name not in _JSON_FIELDS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidUpload(f"{name}: this is no JSON") from None
