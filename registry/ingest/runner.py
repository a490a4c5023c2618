"""Job runner: one attempt at one job (fetch, inspect, keep, publish), recorded in its row."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from registry.catalog.metadata import details_of
from registry.catalog.types import Origin, Registration
from registry.errors import (
    DatabaseUnavailable,
    EngineAway,
    RegistryError,
    SourceTimeout,
    SourceUnavailable,
    StoreUnavailable,
)
from registry.ingest.checkpoints import (
    Checkpoint,
    CheckpointObserver,
    null_checkpoint_observer,
)
from registry.ingest.job_store import JobCancelled, JobStore
from registry.ingest.pipeline import fetch, inspect, keep, take_upload
from registry.ingest.precedence import Requests, Rest
from registry.ingest.registrar import Registrar
from registry.inspection.inspector import Inspection
from registry.models.job import UNFINISHED, Job, JobState, JobStep
from registry.references import tenant_of
from registry.sources.base import FetchedSource, Progress, Source
from registry.sources.disks.store_threads import STEPS
from registry.sources.registry import RemoteSources
from registry.sources.threads import run_to_completion
from registry.sources.upload import UploadedSource
from registry.sources.urls import is_url
from registry.storage.integrity import write_fingerprint
from registry.storage.store import ArtifactStore, StoredArtifact, Workspace, storage_errors

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0
_TRANSIENT = (SourceUnavailable, StoreUnavailable, DatabaseUnavailable, EngineAway)


@dataclass(slots=True)
class JobRun:
    """A job that runs in this process."""

    number: int
    progress: Progress
    step: JobStep | None = None
    task: asyncio.Task[Any] | None = None
    cancelled: bool = field(default=False, init=False)
    published: Path | None = field(default=None, init=False)
    registration: Registration | None = field(default=None, init=False)
    error: RegistryError | None = field(default=None, init=False)  # that made the job fail

    def cancel(self) -> None:
        """Cancel at a client's request, not because of a shutdown."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


class JobRunner:
    """Executes jobs. It never raises, and never leaves a partial version."""

    def __init__(
        self,
        registrar: Registrar,
        store: ArtifactStore,
        job_store: JobStore,
        sources: RemoteSources,
        requests: Requests,
        *,
        timeout_seconds: float,
        watch: CheckpointObserver = null_checkpoint_observer,
    ) -> None:
        self._registrar = registrar
        self._store = store
        self._job_store = job_store
        self._sources = sources
        self._requests = requests
        self._timeout_seconds = timeout_seconds
        self._watch = watch

    async def run(self, run: JobRun, workspace: Workspace, begun: Job | None = None) -> None:
        """One attempt, unless it has `begun` already: then it is the one in this row.

        The workspace's content is kept if there may be another.
        """
        workspace.is_needed = True
        try:
            workspace.is_needed = await self._try(run, workspace, begun)
        except DatabaseUnavailable as error:  # it can't be recorded; the job is started again later
            logger.warning("job %d is put off: %s", run.number, error.detail)
        finally:
            closing = STEPS.finish(partial(_close, workspace, run.published))
            await run_to_completion(closing)

    async def _try(self, run: JobRun, workspace: Workspace, begun: Job | None) -> bool:
        """Run the job; whether it is unfinished."""
        job = begun or await self._job_store.begin(run.number)
        if job is None:
            return False
        try:
            async with report_progress(self._job_store, run):
                await self._attempt(job, run, workspace, is_small=begun is not None)
        except JobCancelled:
            await run_to_completion(self._job_store.confirm_cancelled(run.number))
        except asyncio.CancelledError:
            return await run_to_completion(self._on_cancel(run))
        except _TRANSIENT as error:
            logger.warning("job %d: %s", run.number, error.detail)
            state = await run_to_completion(self._job_store.retry(run.number, error))
            run.error = error if state == JobState.FAILED else None
            return state in UNFINISHED
        except RegistryError as error:
            await run_to_completion(self._job_store.fail(run.number, error.code, error.detail))
            run.error = error
        except Exception:
            logger.exception("job %d", run.number)
            detail = "this was not foreseen: the server's log says more"
            await run_to_completion(self._job_store.fail(run.number, "internal_error", detail))
        return False

    async def _on_cancel(self, run: JobRun) -> bool:
        if not run.cancelled:
            return await self._job_store.requeue(run.number) in UNFINISHED
        await self._job_store.confirm_cancelled(run.number)
        return False

    async def _attempt(
        self, job: Job, run: JobRun, workspace: Workspace, *, is_small: bool
    ) -> None:
        rest = Rest(self._requests)
        await rest.take()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                self._begin(run, JobStep.FETCHING, Checkpoint.FETCHING)
                verify = self._verify_small if is_small else self._verify
                folder, fetched, inspection = await verify(job, run, workspace)
        except TimeoutError:
            raise SourceTimeout(self._timeout_seconds) from None
        self._begin(run, JobStep.STORING, Checkpoint.INSPECTED)
        await rest.take()
        async with keep(self._store, folder, fetched, inspection) as artifact:
            self._begin(run, JobStep.PUBLISHING, Checkpoint.KEPT)
            await rest.take()
            registration = await run_to_completion(self._publish(job, run, fetched, artifact, rest))
            run.registration = registration
            run.published = artifact.path if artifact.is_used else None
            self._watch(run.number, Checkpoint.PUBLISHED)

    async def _verify(
        self, job: Job, run: JobRun, workspace: Workspace
    ) -> tuple[Path, FetchedSource, Inspection]:
        with storage_errors():
            source = await self._source(job, workspace)
            folder = await STEPS.run(workspace.empty_folder)
        limits = await self._registrar.fetch_limits(job.adapter)
        fetched = await fetch(source, folder, limits, run.progress)
        self._begin(run, JobStep.INSPECTING, Checkpoint.FETCHED)
        return folder, fetched, await inspect(folder, partial(self._inspect, fetched=fetched))

    async def _verify_small(
        self, job: Job, run: JobRun, workspace: Workspace
    ) -> tuple[Path, FetchedSource, Inspection]:
        limits = await self._registrar.fetch_limits(job.adapter)
        verified = await take_upload(workspace, limits, run.progress, self._inspect)
        self._begin(run, JobStep.INSPECTING, Checkpoint.FETCHED)
        return verified

    def _inspect(self, folder: Path, fetched: FetchedSource) -> Inspection:
        """Runs in a thread. Raises InvalidAdapter."""
        return self._registrar.inspect(folder, fetched.remarks)

    async def _publish(
        self,
        job: Job,
        run: JobRun,
        fetched: FetchedSource,
        artifact: StoredArtifact,
        rest: Rest,
    ) -> Registration:
        async def in_transaction(session: AsyncSession, registration: Registration) -> None:
            await self._job_store.succeed(session, job, run.progress, registration)
            self._watch(run.number, Checkpoint.WRITTEN)

        origin = Origin(job.source, fetched.stored_revision, job.created_by, job.address)
        details = details_of(job.request)
        return await self._registrar.publish(
            job.adapter, origin, artifact, details, in_transaction=in_transaction, rest=rest
        )

    async def _source(self, job: Job, workspace: Workspace) -> Source:
        """Raises what opening the source raises."""
        if job.fetched_from is None:
            return UploadedSource(workspace.upload)
        tenant = tenant_of(job.created_by)  # limits the sources that it may read
        if is_url(job.fetched_from):
            open_url = partial(self._sources.open, job.fetched_from, within=tenant)
            return (await asyncio.to_thread(open_url))[1]
        return await self._store.local(job.fetched_from, within=tenant)

    def _begin(self, run: JobRun, step: JobStep, checkpoint: Checkpoint) -> None:
        run.step = step
        self._watch(run.number, checkpoint)


def _close(workspace: Workspace, published: Path | None) -> None:
    """Runs in a thread: deleting large files takes a while."""
    workspace.close()
    if published is not None:  # deleting an upload's hard link changes the ctime
        with suppress(OSError):
            write_fingerprint(published)


@asynccontextmanager
async def report_progress(job_store: JobStore, run: JobRun) -> AsyncIterator[None]:
    """Save the job's progress during the block, and cancel it on request."""

    async def report() -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            try:
                await job_store.report_progress(run.number, run.progress, run.step)
            except DatabaseUnavailable:
                continue
            except JobCancelled:
                run.cancel()
                return

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
