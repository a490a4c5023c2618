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
from registry.sources.base import Progress
from registry.storage.store import ArtifactStore, Workspace

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_CLEANUP_SECONDS = 60.0


class WorkerPool:
    """A job is run by the process that holds its workspace's lock, which a dead process can't.

    So a job whose server was killed is found by the next poll, here or at another server with the
    same database and store.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        runner: JobRunner,
        cleanup: Cleanup,
        *,
        max_running: int,
        new_progress: Callable[[], Progress],
    ) -> None:
        self._queue = JobQueue(database)
        self._store = store
        self._runner = runner
        self._cleanup = cleanup
        self._max_running = max_running
        self._new_progress = new_progress
        self._running: dict[int, JobRun] = {}
        self._wake = asyncio.Event()
        self._cleanup_at = 0.0
        self._failures = 0
        self._cleaned_failures = 0

    def wake(self) -> None:
        """Poll now: there may be a new job."""
        self._wake.set()

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
        """All now and then; after a job that failed only what it may have left in the store."""
        if time.monotonic() >= self._cleanup_at:
            await self._cleanup.run()
            self._cleanup_at = time.monotonic() + _CLEANUP_SECONDS
        elif (failures := self._failures) > self._cleaned_failures:
            await self._cleanup.clean_all_pending()
            self._cleaned_failures = failures

    async def _start_due_jobs(self, group: asyncio.TaskGroup) -> None:
        self._queue.look()
        while len(self._running) < self._max_running:
            job = await self._queue.next(self._running)
            if job is None:
                return
            await self._start(job, group)

    async def _start(self, job: DueJob, group: asyncio.TaskGroup) -> None:
        workspace = await open_workspace(self._store, job.workspace)
        if workspace is None:  # it is being run or received
            return
        run = JobRun(job.number, self._new_progress())
        self._running[job.number] = run
        run.task = group.create_task(self._work(run, workspace))

    async def _work(self, run: JobRun, workspace: Workspace) -> None:
        try:
            await self._runner.run(run, workspace)
        finally:
            del self._running[run.number]
            self._failures += run.published is None
            self.wake()
