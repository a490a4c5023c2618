"""Job runner: one attempt at one job (fetch, inspect, keep, publish), recorded in its row."""

import asyncio
import logging
import math
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
from registry.ingest.pipeline import close_workspace, fetch, inspect, keep, take_upload
from registry.ingest.precedence import Requests, Rest
from registry.ingest.registrar import Registrar
from registry.inspection.inspector import Inspection
from registry.models.job import UNFINISHED, Job, JobState, JobStep
from registry.references import tenant_of
from registry.sources.base import FetchedSource, Progress, Source
from registry.sources.disks.store_threads import STEPS, WORK, store_overdue
from registry.sources.registry import RemoteSources
from registry.sources.threads import run_to_completion
from registry.sources.upload import UploadedSource
from registry.sources.urls import is_url
from registry.storage.store import ArtifactStore, StoredArtifact, storage_errors
from registry.storage.workspace import Workspace

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
            await close_workspace(workspace, run.published)

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
        seconds = min(self._timeout_seconds, WORK.seconds if is_small else math.inf)
        try:
            async with asyncio.timeout(seconds):
                self._begin(run, JobStep.FETCHING, Checkpoint.FETCHING)
                if is_small:
                    fetched, artifact = await self._take_small(job, run, workspace, rest)
                else:
                    folder, fetched, inspection = await self._verify(job, run, workspace)
        except TimeoutError:
            is_in_store = job.fetched_from is None
            raise (store_overdue if is_in_store else SourceTimeout)(seconds) from None
        if is_small:
            await self._publish(job, run, fetched, artifact, rest)
            workspace.has_version = artifact.is_used
            return
        self._begin(run, JobStep.STORING, Checkpoint.INSPECTED)
        await rest.take()
        async with keep(self._store, folder, fetched, inspection) as artifact:
            await self._publish(job, run, fetched, artifact, rest)

    async def _verify(
        self, job: Job, run: JobRun, workspace: Workspace
    ) -> tuple[Path, FetchedSource, Inspection]:
        with storage_errors():
            source = await self._source(job, workspace)
            folder = await STEPS.run(workspace.empty_folder)
        limits = await self._registrar.fetch_limits(job.adapter)
        fetched = await fetch(source, folder, limits, run.progress)
        self._begin(run, JobStep.INSPECTING, Checkpoint.FETCHED)
        check = partial(self._registrar.inspect, remarks=fetched.remarks)
        return folder, fetched, await inspect(folder, check)

    async def _take_small(
        self, job: Job, run: JobRun, workspace: Workspace, rest: Rest
    ) -> tuple[FetchedSource, StoredArtifact]:
        limits = await self._registrar.fetch_limits(job.adapter)

        def check(folder: Path, fetched: FetchedSource) -> Inspection:
            self._begin(run, JobStep.INSPECTING, Checkpoint.FETCHED)
            inspection = self._registrar.inspect(folder, fetched.remarks)
            self._begin(run, JobStep.STORING, Checkpoint.INSPECTED)
            return inspection

        return await take_upload(self._store, workspace, limits, run.progress, check, rest)

    async def _publish(
        self, job: Job, run: JobRun, fetched: FetchedSource, artifact: StoredArtifact, rest: Rest
    ) -> None:
        self._begin(run, JobStep.PUBLISHING, Checkpoint.KEPT)
        await rest.take()
        writing = self._write(job, run, fetched, artifact, rest)
        run.registration = await run_to_completion(writing)
        run.published = artifact.path if artifact.is_used else None
        self._watch(run.number, Checkpoint.PUBLISHED)

    async def _write(
        self, job: Job, run: JobRun, fetched: FetchedSource, artifact: StoredArtifact, rest: Rest
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
            return UploadedSource(await STEPS.run(workspace.uploaded))
        tenant = tenant_of(job.created_by)  # limits the sources that it may read
        if is_url(job.fetched_from):
            open_url = partial(self._sources.open, job.fetched_from, within=tenant)
            return (await asyncio.to_thread(open_url))[1]
        return await self._store.local(job.fetched_from, within=tenant)

    def _begin(self, run: JobRun, step: JobStep, checkpoint: Checkpoint) -> None:
        run.step = step
        self._watch(run.number, checkpoint)


@asynccontextmanager
async def report_progress(job_store: JobStore, run: JobRun) -> AsyncIterator[None]:
    """Save the job's progress during the block, and cancel it on request."""

    async def report() -> None:
        while True:
            try:
                with suppress(DatabaseUnavailable):
                    await job_store.report_progress(run.number, run.progress, run.step)
            except JobCancelled:
                run.cancel()
                return
            await asyncio.sleep(PROGRESS_SECONDS)

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    begin = loop.call_later(PROGRESS_SECONDS, lambda: tasks.append(loop.create_task(report())))
    try:
        yield
    finally:
        begin.cancel()
        for task in tasks:
            task.cancel()
            await asyncio.wait({task})
