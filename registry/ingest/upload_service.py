"""Uploads: the body is streamed to the job's workspace, then the job is queued."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from registry.auth.client_address import client_address
from registry.errors import JobFinished, RegistryError, SourceTimeout, TooManyUploads
from registry.ingest.job_store import JobCancelled, JobStore
from registry.ingest.multipart import UploadReceiver
from registry.ingest.pipeline import new_workspace
from registry.ingest.runner import JobRun, report_progress
from registry.models.job import Job, JobState
from registry.quotas.places import Places
from registry.quotas.service import TenantQuotas
from registry.references import tenant_of
from registry.sources.base import MAX_FIELDS_BYTES, FetchLimits, Progress
from registry.sources.beside import MAX_TRAINING_BYTES
from registry.sources.threads import run_to_completion
from registry.storage.store import ArtifactStore, Workspace, storage_errors

UPLOAD = "upload"


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
    """Receives a limited number of uploads at a time, shared among tenants."""

    def __init__(
        self,
        store: ArtifactStore,
        job_store: JobStore,
        quotas: TenantQuotas,
        *,
        max_uploads: int,
        timeout_seconds: float,
        new_progress: Callable[[], Progress],
    ) -> None:
        self._store = store
        self._job_store = job_store
        self._quotas = quotas
        self._places = Places(max_uploads)
        self._timeout_seconds = timeout_seconds
        self._new_progress = new_progress
        self._running: dict[int, JobRun] = {}

    def cancel(self, number: int) -> None:
        """Stop receiving it, if this server does."""
        if (run := self._running.get(number)) is not None:
            run.cancel()

    async def receive(self, upload: Upload) -> Job:
        """The job, queued once the upload is complete.

        Raises TooManyUploads, SourceTooLarge, SourceTimeout, InvalidUpload, InvalidAdapter
        (`unsafe_path`), StoreUnavailable, DatabaseUnavailable, JobFinished if it was cancelled
        meanwhile, and what `read_fields` raises.
        """
        limits = await self._quotas.fetch_limits(upload.adapter, self._store.limits)
        tenant = tenant_of(upload.adapter)
        if not self._places.has_place(tenant):
            raise TooManyUploads(self._places.count, tenant)
        if (upload.counted_bytes or 0) > limits.written_bytes + MAX_FIELDS_BYTES:
            raise limits.excess()
        with self._places.hold(tenant):
            async with new_workspace(self._store) as workspace:
                job = await self._receive(upload, workspace, limits)
                workspace.is_needed = True
                return job

    async def _receive(self, upload: Upload, workspace: Workspace, limits: FetchLimits) -> Job:
        progress = self._new_progress()
        with storage_errors():
            await asyncio.to_thread(workspace.upload.mkdir, parents=True)
        receiver = UploadReceiver(upload.content_type, workspace.upload, limits, progress)
        if upload.size_bytes is not None:
            progress.expect(upload.size_bytes)
        job = await run_to_completion(self._job_store.add(_job(upload, workspace)))
        run = JobRun(job.number, progress)
        try:
            async with self._track(run):
                fields = await self._body(run, receiver, upload.body)
                request = upload.read_fields(fields)
                return await run_to_completion(self._job_store.complete_upload(run.number, request))
        except JobCancelled:
            await run_to_completion(self._job_store.confirm_cancelled(run.number))
            raise JobFinished(run.number, JobState.CANCELLED) from None
        except RegistryError as error:
            await run_to_completion(self._job_store.fail(run.number, error.code, error.detail))
            raise
        except asyncio.CancelledError:
            detail = "the server ended before all was here: send it again"
            await run_to_completion(self._job_store.fail(run.number, "upload_interrupted", detail))
            raise

    async def _body(
        self, run: JobRun, receiver: UploadReceiver, body: AsyncIterator[bytes]
    ) -> dict[str, str]:
        """Raises JobCancelled if the job was cancelled, not the request."""
        receiving = asyncio.create_task(receiver.receive(body))
        run.task = receiving
        try:
            async with asyncio.timeout(self._timeout_seconds):
                with storage_errors():
                    return await receiving
        except TimeoutError:
            raise SourceTimeout(self._timeout_seconds) from None
        except asyncio.CancelledError:
            if run.cancelled:
                raise JobCancelled from None
            raise

    @asynccontextmanager
    async def _track(self, run: JobRun) -> AsyncIterator[None]:
        self._running[run.number] = run
        try:
            async with report_progress(self._job_store, run):
                yield
        finally:
            del self._running[run.number]


def _job(upload: Upload, workspace: Workspace) -> Job:
    return Job(
        adapter=upload.adapter,
        source=UPLOAD,
        request={"address": client_address()},
        workspace=workspace.name,
        state=JobState.RECEIVING,
        created_by=upload.actor,
    )
