"""Worker pool: finds jobs that no process works on, and runs a few at a time."""

import asyncio
import logging
import time
from collections.abc import Callable

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, StoreUnavailable
from registry.ingest.cleanup import Cleanup
from registry.ingest.job_queue import JobQueue
from registry.ingest.pipeline import open_workspace
from registry.ingest.repository import DueJob
from registry.ingest.runner import JobRun, JobRunner
from registry.quotas.places import Places
from registry.sources.base import Progress
from registry.storage.store import ArtifactStore, Workspace

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_CLEANUP_SECONDS = 60.0


class WorkerPool:
    """A job is run by the process that holds its workspace's lock, which a dead process can't.

    So a job whose server was killed is found by the next poll, here or at another server with the
    same database and store. A tenant's long jobs leave a place to the others.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        runner: JobRunner,
        cleanup: Cleanup,
        *,
        max_running: int,
        short_bytes: int,
        new_progress: Callable[[], Progress],
    ) -> None:
        self._queue = JobQueue(database)
        self._store = store
        self._runner = runner
        self._cleanup = cleanup
        self._places = Places(max_running)
        self._short_bytes = short_bytes
        self._new_progress = new_progress
        self._running: dict[int, JobRun] = {}
        self._wake = asyncio.Event()
        self._cleanup_at = 0.0
        self._leftovers = 0
        self._cleaned_leftovers = 0

    def wake(self) -> None:
        """Poll now: there may be a new job."""
        self._wake.set()

    def clean_up(self) -> None:
        """Look for files in the store that no version uses."""
        self._leftovers += 1
        self.wake()

    def cancel(self, number: int) -> None:
        """Stop the job, if it runs here."""
        if (run := self._running.get(number)) is not None:
            run.cancel()

    async def run(self) -> None:
        """Run until cancelled; then jobs go back to the queue."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    await self._clean_up()
                    await self._start_due_jobs(group)
                except (DatabaseUnavailable, StoreUnavailable) as error:
                    logger.warning("jobs wait: %s", error.detail)
                except Exception:  # must not stop the server
                    logger.exception("jobs wait")
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _clean_up(self) -> None:
        """All now and then; in between only files in the store that were left without a row."""
        if time.monotonic() >= self._cleanup_at:
            await self._cleanup.run()
            self._cleanup_at = time.monotonic() + _CLEANUP_SECONDS
        elif (leftovers := self._leftovers) > self._cleaned_leftovers:
            await self._cleanup.clean_all_pending()
            self._cleaned_leftovers = leftovers

    async def _start_due_jobs(self, group: asyncio.TaskGroup) -> None:
        self._queue.look()
        while self._places.has_place(None):
            job = await self._queue.next(self._running)
            if job is None:
                return
            owner = None if self._is_short(job) else job.tenant
            if self._places.has_place(owner):
                await self._start(job, owner, group)

    def _is_short(self, job: DueJob) -> bool:
        return job.upload_bytes is not None and job.upload_bytes <= self._short_bytes

    async def _start(self, job: DueJob, owner: str | None, group: asyncio.TaskGroup) -> None:
        workspace = await open_workspace(self._store, job.workspace)
        if workspace is None:  # it is being run or received
            return
        run = JobRun(job.number, self._new_progress())
        self._running[job.number] = run
        self._places.take(owner)
        run.task = group.create_task(self._work(run, workspace, owner))

    async def _work(self, run: JobRun, workspace: Workspace, owner: str | None) -> None:
        try:
            await self._runner.run(run, workspace)
        finally:
            del self._running[run.number]
            self._places.give_back(owner)
            self._leftovers += run.published is None
            self.wake()
