"""Uploads: the body is streamed to the job's workspace, then the job is queued."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from registry.auth.client_address import client_address
from registry.errors import (
    DatabaseUnavailable,
    JobFinished,
    RegistryError,
    TooManyUploads,
)
from registry.ingest.job_store import JobCancelled, JobStore, begin_attempt
from registry.ingest.multipart import UploadReceiver
from registry.ingest.pipeline import close_workspace, create_workspace
from registry.ingest.precedence import Requests, Rest
from registry.ingest.runner import JobRun, report_progress
from registry.ingest.worker_pool import WorkerPool
from registry.models.job import Job, JobState
from registry.places import Places
from registry.quotas.service import TenantQuotas
from registry.references import tenant_of
from registry.sources.base import MAX_FIELDS_BYTES, FetchLimits, Progress
from registry.sources.beside import MAX_TRAINING_BYTES
from registry.sources.threads import run_to_completion
from registry.storage.store import ArtifactStore, storage_errors
from registry.storage.workspace import Workspace

UPLOAD = "upload"

_MOMENT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload request. `size_bytes` is the declared length of its body, if any.

    `training_bytes`: how much of that is declared to be training files, which are not stored.
    `read_fields` turns the form's fields into the job's request, or raises RegistryError.
    """

    adapter: str
    content_type: str
    size_bytes: int | None
    body: AsyncIterator[bytes]
    read_fields: Callable[[dict[str, str]], dict[str, Any]]
    actor: str
    training_bytes: int = 0

    @property
    def counted_bytes(self) -> int | None:
        """What may have to be stored, and a form's fields."""
        if self.size_bytes is None:
            return None
        return self.size_bytes - min(self.training_bytes, MAX_TRAINING_BYTES)


class UploadService:
    """Receives a limited number of uploads at a time, shared among tenants.

    A job's row is written when its body has come, or when that takes more than a moment. So a
    small upload is one row, which says that its attempt has begun.
    """

    def __init__(
        self,
        store: ArtifactStore,
        job_store: JobStore,
        quotas: TenantQuotas,
        workers: WorkerPool,
        requests: Requests,
        *,
        max_uploads: int,
        small_bytes: int,
        timeout_seconds: float,
        new_progress: Callable[[], Progress],
    ) -> None:
        self._store = store
        self._job_store = job_store
        self._quotas = quotas
        self._workers = workers
        self._requests = requests
        self._places = Places(max_uploads)
        self._small_bytes = small_bytes
        self._timeout_seconds = timeout_seconds
        self._new_progress = new_progress
        self._running: dict[int, JobRun] = {}

    def cancel(self, number: int) -> None:
        """Stop receiving it, if this server does."""
        if (run := self._running.get(number)) is not None:
            run.cancel()

    def is_small(self, job: Job) -> bool:
        """Whether a received job is run immediately."""
        return job.bytes_done <= self._small_bytes

    async def receive(self, upload: Upload) -> Job:
        """The job, queued or running, once the upload is complete.

        Raises TooManyJobs, TooManyUploads, SourceTooLarge, SourceTimeout, InvalidUpload,
        InvalidAdapter (`unsafe_path`), StoreUnavailable, DatabaseUnavailable, JobFinished if it was
        cancelled meanwhile, and what `read_fields` raises.
        """
        await self._job_store.check_room(upload.adapter)
        limits = await self._quotas.fetch_limits(upload.adapter, self._store.limits)
        tenant = tenant_of(upload.adapter)
        if not self._places.has_place(tenant):
            raise TooManyUploads(self._places.count, tenant)
        if (upload.counted_bytes or 0) > limits.written_bytes + MAX_FIELDS_BYTES:
            raise limits.excess()
        with self._places.hold(tenant):
            rest = Rest(self._requests)
            await rest.take()
            workspace = await create_workspace(self._store, for_upload=True)
            reception = _Reception(
                upload, workspace, _job(upload, workspace), self._new_progress(), rest
            )
            try:
                return await self._receive(reception, limits)
            finally:
                if not reception.is_handed_over:
                    await close_workspace(workspace)

    async def _receive(self, reception: "_Reception", limits: FetchLimits) -> Job:
        try:
            async with AsyncExitStack() as tracked:
                fields = await self._body(reception, limits, tracked)
                reception.request = reception.upload.read_fields(fields)
                return await run_to_completion(self._complete(reception))
        except JobCancelled:
            number = reception.job.number
            await run_to_completion(self._job_store.confirm_cancelled(number))
            raise JobFinished(number, JobState.CANCELLED) from None
        except DatabaseUnavailable:
            raise
        except RegistryError as error:
            await run_to_completion(self._fail(reception.job, error))
            raise
        except asyncio.CancelledError:
            if reception.job.id is not None:
                detail = "the server ended before all was here: send it again"
                failing = self._job_store.fail(reception.job.number, "upload_interrupted", detail)
                await run_to_completion(failing)
            raise

    async def _body(
        self, reception: "_Reception", limits: FetchLimits, tracked: AsyncExitStack
    ) -> dict[str, str]:
        """The form's fields. Raises JobCancelled if the job was cancelled, not the request."""
        upload, progress = reception.upload, reception.progress
        into = reception.workspace.received
        receiver = UploadReceiver(upload.content_type, into, limits, progress)
        if upload.size_bytes is not None:
            progress.expect(upload.size_bytes)
        receiving = asyncio.create_task(receiver.receive(upload.body))
        run: JobRun | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                with storage_errors():
                    await asyncio.wait({receiving}, timeout=_MOMENT_SECONDS)
                    if not receiving.done():
                        reception.job = await run_to_completion(self._job_store.add(reception.job))
                        run = JobRun(reception.job.number, progress, task=receiving)
                        await tracked.enter_async_context(self._track(run))
                    return await receiving
        except TimeoutError:
            raise receiver.overdue(self._timeout_seconds) from None
        except asyncio.CancelledError:
            if run is not None and run.cancelled:
                raise JobCancelled from None
            raise
        finally:
            receiving.cancel()
            await asyncio.wait({receiving})

    async def _complete(self, reception: "_Reception") -> Job:
        """Run it if it is small and its tenant's turn comes soon; else queue it."""
        job, workspace = reception.job, reception.workspace
        if job.id is not None:
            job = await self._job_store.complete_upload(job.number, reception.request)
            workspace.is_needed = True
            return job
        job.request = {**reception.request, "address": job.address}
        job.bytes_done, job.bytes_total = reception.progress.bytes_done, None
        if not (self.is_small(job) and await self._take_turn(job)):
            job.state = JobState.QUEUED
            job = await self._job_store.add(job)
            workspace.is_needed = True
            return job
        try:
            await reception.rest.take()
            begin_attempt(job)
            job = await self._job_store.add(job)
        except BaseException:
            self._workers.give_back_turn()
            raise
        reception.is_handed_over = True
        await self._workers.run_received(job, workspace)
        return job

    async def _take_turn(self, job: Job) -> bool:
        tenant = tenant_of(job.adapter)
        return await self._workers.take_turn(tenant, within_seconds=_MOMENT_SECONDS)

    async def _fail(self, job: Job, error: RegistryError) -> None:
        if job.id is None:
            await self._job_store.add_failed(job, error)
        else:
            await self._job_store.fail(job.number, error.code, error.detail)

    @asynccontextmanager
    async def _track(self, run: JobRun) -> AsyncIterator[None]:
        self._running[run.number] = run
        try:
            async with report_progress(self._job_store, run):
                yield
        finally:
            del self._running[run.number]


@dataclass(slots=True)
class _Reception:
    """An upload that comes. `job` has an id once its row is written."""

    upload: Upload
    workspace: Workspace
    job: Job
    progress: Progress
    rest: Rest
    request: dict[str, Any] = field(default_factory=dict)
    is_handed_over: bool = False  # the workspace belongs to the job's attempt


def _job(upload: Upload, workspace: Workspace) -> Job:
    return Job(
        adapter=upload.adapter,
        source=UPLOAD,
        request={"address": client_address()},
        workspace=workspace.name,
        state=JobState.RECEIVING,
        created_by=upload.actor,
    )
