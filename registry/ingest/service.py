"""Background registration jobs: created here, stored in a table, executed by `run`."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from registry.auth.client_address import client_address
from registry.catalog.metadata import VersionDetails, details_of
from registry.catalog.types import Registration
from registry.database.engine import Database
from registry.database.pagination import Page, number_of, page_of
from registry.errors import UnknownJob
from registry.ingest.checkpoints import CheckpointObserver, null_checkpoint_observer
from registry.ingest.cleanup import Cleanup
from registry.ingest.completion import Completions, wait_at_most
from registry.ingest.job_store import JobStore
from registry.ingest.precedence import NO_REQUESTS, Requests, Rest
from registry.ingest.registrar import Registrar
from registry.ingest.repository import JobFilter, JobRepository
from registry.ingest.runner import JobRunner
from registry.ingest.upload_service import Upload, UploadService
from registry.ingest.worker_pool import WorkerPool
from registry.models.job import Job, JobState
from registry.settings import RegistrySettings
from registry.sources.base import Progress
from registry.sources.quarantine import too_large
from registry.sources.registry import RemoteSources
from registry.sources.urls import is_url, parse_url
from registry.storage.store import ArtifactStore

SMALL_UPLOAD_SECONDS = 10.0  # that its request waits for the version, unless told
DIRECT_SECONDS = 60.0  # for a small folder, which becomes a job then
_RECENT_JOBS = 20


class IngestService:
    """Creates, executes and cancels jobs. `watch` is called at each checkpoint."""

    def __init__(
        self,
        registrar: Registrar,
        database: Database,
        store: ArtifactStore,
        sources: RemoteSources,
        settings: RegistrySettings,
        *,
        watch: CheckpointObserver = null_checkpoint_observer,
        new_progress: Callable[[], Progress] = Progress,
        requests: Requests = NO_REQUESTS,
    ) -> None:
        """`requests`: those of others that are answered here, which come first."""
        self._registrar = registrar
        self._database = database
        self._store = store
        self._requests = requests
        self._sources = sources
        self._max_direct_bytes = settings.max_direct_bytes
        most, attempts = settings.max_tenant_jobs, settings.ingest_attempts
        self._job_store = JobStore(database, max_attempts=attempts, max_tenant_jobs=most)
        retention = timedelta(days=settings.job_retention_days)
        self._cleanup = Cleanup(store, database, retention=retention)
        self._completions = Completions(database, self.job)
        patience = settings.ingest_timeout_seconds
        runner = JobRunner(
            registrar,
            store,
            self._job_store,
            sources,
            requests,
            timeout_seconds=patience,
            watch=watch,
        )
        self._workers = WorkerPool(
            database,
            store,
            runner,
            self._cleanup,
            max_running=settings.max_ingests,
            short_bytes=settings.max_direct_bytes,
            new_progress=new_progress,
            on_end=self._completions.report,
            requests=requests,
        )
        self._uploads = UploadService(
            store,
            self._job_store,
            registrar.quotas,
            self._workers,
            requests,
            max_uploads=settings.max_uploads,
            small_bytes=settings.max_direct_bytes,
            timeout_seconds=patience,
            new_progress=new_progress,
        )

    async def run(self) -> None:
        """Execute jobs until cancelled, first those that a crash left."""
        await self._workers.run()

    async def register(
        self,
        name: str,
        source: str,
        *,
        actor: str,
        request: dict[str, Any],
        within: str | None = None,
        wait_seconds: float | None = None,
    ) -> Registration | Job:
        """Register a small local folder directly; anything else becomes a job.

        `within`: the calling tenant; only folders and buckets below its name may be read.
        `wait_seconds`: how long to wait for the job's version; 0 makes a job of everything.

        Raises what `Completions.wait` and `Registrar.register` raise; for URLs InvalidSource,
        SourceNotAllowed, SourceUnsupported; SourceTimeout, TenantLimit.
        """
        self._registrar.check_new_name(name)
        details = details_of(request)
        if is_url(source):
            # in a thread: the first of a scheme imports what only its extra has
            url, _ = await asyncio.to_thread(self._sources.open, source, within=within)
            await self._registrar.quotas.begin_registration(name)
            job = await self._queue(name, str(url), source, actor, request)
            return await self._wait(job, wait_seconds or 0)
        folder = await self._store.local(source, within=within)
        size_bytes = await folder.total_bytes()
        if size_bytes > self._store.limits.max_bytes:
            raise too_large(self._store.limits)
        await self._registrar.quotas.begin_registration(name, size_bytes)
        if size_bytes > self._max_direct_bytes or wait_seconds == 0:
            job = await self._queue(name, source, source, actor, request)
            return await self._wait(job, wait_seconds or 0)
        direct = self._register_directly(name, source, actor, details, within)
        seconds = DIRECT_SECONDS if wait_seconds is None else wait_seconds
        if (done := await wait_at_most(direct, seconds)) is not None:
            return done
        return await self._queue(name, source, source, actor, request)

    async def _register_directly(
        self,
        name: str,
        source: str,
        actor: str,
        details: VersionDetails,
        within: str | None,
    ) -> Registration:
        created = False
        try:
            registration = await self._registrar.register(
                name, source, actor=actor, details=details, within=within, rest=Rest(self._requests)
            )
            created = registration.created
        finally:
            if not created:  # its files may be in the store, though no version uses them
                self._workers.clean_up()
        return registration

    async def receive(
        self, upload: Upload, *, wait_seconds: float | None = None
    ) -> Registration | Job:
        """Receive an upload, and wait for its version: a while for a small one, unless told.

        Raises what `UploadService.receive` and `Completions.wait` raise; InvalidReference,
        NameReserved, TenantLimit.
        """
        self._registrar.check_new_name(upload.adapter)
        await self._registrar.quotas.begin_registration(upload.adapter, upload.counted_bytes)
        job = await self._uploads.receive(upload)
        if job.state == JobState.QUEUED:
            self._workers.wake()
        if wait_seconds is None:
            is_awaited = self._workers.is_open and self._uploads.is_small(job)
            wait_seconds = SMALL_UPLOAD_SECONDS if is_awaited else 0
        return await self._wait(job, wait_seconds)

    async def join(self, name: str, source: str, seconds: float) -> Registration | Job | None:
        """Wait for the unfinished job that registers this source under this name; None without one.

        Raises what `Completions.wait` raises.
        """
        shown = str(parse_url(source)) if is_url(source) else source
        recent = await self.jobs(JobFilter(adapter=name), limit=_RECENT_JOBS)
        for job in recent.items:
            if job.source == shown and not (job.is_finished or job.cancel_requested):
                return await self._wait(job, seconds)
        return None

    async def _wait(self, job: Job, seconds: float) -> Registration | Job:
        runs_here = self._workers.is_running(job.number)
        return await self._completions.wait(job, seconds, runs_here=runs_here)

    async def _queue(
        self, name: str, shown: str, source: str, actor: str, request: dict[str, Any]
    ) -> Job:
        job = Job(
            adapter=name,
            source=shown,
            fetched_from=source,
            request={**request, "address": client_address()},
            workspace=secrets.token_hex(16),
            state=JobState.QUEUED,
            created_by=actor,
        )
        job = await self._job_store.add(job)
        self._workers.wake()
        return job

    # ---- look-ups and cancellation ----------------------------------------------------------

    async def job(self, number: int) -> Job:
        """Raises UnknownJob, DatabaseUnavailable."""
        async with self._database.read_session() as session:
            job = await JobRepository(session).job(number)
        if job is None:
            raise UnknownJob(number)
        return job

    async def jobs(
        self, wanted: JobFilter, *, limit: int, page_token: str | None = None
    ) -> Page[Job]:
        """Raises InvalidPageToken, DatabaseUnavailable."""
        before = number_of(page_token) or None
        async with self._database.read_session() as session:
            rows = await JobRepository(session).jobs(wanted, before=before, limit=limit + 1)
        return page_of(rows, limit, lambda job: job.number)

    async def cancel(self, number: int, *, actor: str) -> Job:
        """Request cancellation; a published version stays. Raises UnknownJob, JobFinished."""
        job = await self._job_store.cancel(number, actor)
        self._workers.cancel(number)
        self._uploads.cancel(number)
        if job.is_finished:
            await self._cleanup.clean_workspace(job.workspace)
        return job

    async def cancel_some(self, wanted: JobFilter, *, actor: str, limit: int) -> int:
        """Request the cancellation of these jobs, the oldest first; how many.

        The workspaces of those that waited go with the next cleanup. Raises DatabaseUnavailable.
        """
        jobs = await self._job_store.cancel_some(wanted, actor, limit)
        for job in jobs:
            self._workers.cancel(job.number)
            self._uploads.cancel(job.number)
        return len(jobs)
