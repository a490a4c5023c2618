"""Worker pool: finds jobs that no process works on, and runs a few at a time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, StoreUnavailable
from registry.ingest.cleanup import Cleanup
from registry.ingest.job_places import HeldPlace, JobPlaces
from registry.ingest.job_queue import JobQueue
from registry.ingest.pipeline import close_workspace, open_workspace
from registry.ingest.precedence import Requests
from registry.ingest.repository import DueJob
from registry.ingest.runner import JobRun, JobRunner
from registry.models.job import Job
from registry.quotas.turns import Turns
from registry.sources.base import Progress
from registry.storage.store import ArtifactStore
from registry.storage.workspace import Workspace

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_CLEANUP_SECONDS = 60.0
_MOST_FAILURES = 4
"""Of jobs whose workspace can't be opened: then the store is away, and all others would wait."""


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
        on_end: Callable[[JobRun], None],
        requests: Requests,
    ) -> None:
        """`on_end` is called with each attempt that has ended.

        While there are `requests`, small uploads are run one at a time: two at a time take the
        event loop from others for twice as long, and are hardly faster (measured on 2 cores).
        """
        self._queue = JobQueue(database)
        self._store = store
        self._runner = runner
        self._cleanup = cleanup
        self._places = JobPlaces(max_running, on_change=self.wake)
        self._turns = Turns(max_running, is_narrow=requests.has_any)
        self._on_end = on_end
        self._group: asyncio.TaskGroup | None = None
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

    @property
    def is_open(self) -> bool:
        """Whether jobs are run here."""
        return self._group is not None

    def is_running(self, number: int) -> bool:
        """Whether an attempt at the job runs here."""
        return number in self._running

    def cancel(self, number: int) -> None:
        """Stop the job, if it runs here."""
        if (run := self._running.get(number)) is not None:
            run.cancel()

    async def run(self) -> None:
        """Run until cancelled; then jobs go back to the queue."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._run(group)
            finally:
                self._group = None

    async def _run(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            await _try("cleanup waits", self._clean_up())  # and jobs don't wait for it
            await _try("jobs wait", self._start_due_jobs(group))
            await self._wait_for_work()

    # ---- small uploads, which the server that received them runs immediately ----------------

    async def take_turn(self, tenant: str | None, *, within_seconds: float) -> bool:
        """Whether a small upload may run now; then `run_received` or `give_back_turn` follows."""
        return self._group is not None and await self._turns.take(
            tenant, within_seconds=within_seconds
        )

    def give_back_turn(self) -> None:
        self._turns.give_back()

    async def run_received(self, job: Job, workspace: Workspace) -> None:
        """Run a job whose attempt began with its row, in the background."""
        if self._group is None:  # the server is ending: the next one runs it
            workspace.is_needed = True
            self._turns.give_back()
            await close_workspace(workspace)
            return
        run = JobRun(job.number, self._new_progress())
        self._running[job.number] = run
        run.task = self._group.create_task(self._work_received(job, run, workspace))

    async def _work_received(self, job: Job, run: JobRun, workspace: Workspace) -> None:
        try:
            await self._runner.run(run, workspace, job)
        finally:
            self._turns.give_back()
            self._end(run)

    # ---- jobs of the queue -------------------------------------------------------------------

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
        failures = 0
        while self._places.has_any:
            job = await self._queue.next(self._running)
            if job is None:
                return
            if not self._places.has_place(job, is_short=self._is_short(job)):
                continue
            try:
                await self._start(job, group)
            except StoreUnavailable as error:
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
                logger.warning("job %d waits: %s", job.number, error.detail)

    def _is_short(self, job: DueJob) -> bool:
        return job.upload_bytes is not None and job.upload_bytes <= self._short_bytes

    async def _start(self, job: DueJob, group: asyncio.TaskGroup) -> None:
        workspace = await open_workspace(self._store, job.workspace)
        if workspace is None:  # it is being run or received
            return
        run = JobRun(job.number, self._new_progress())
        self._running[job.number] = run
        place = self._places.take(job, is_short=self._is_short(job))
        run.task = group.create_task(self._work(run, workspace, place))

    async def _work(self, run: JobRun, workspace: Workspace, place: HeldPlace) -> None:
        try:
            with place.watched(run):
                await self._runner.run(run, workspace)
        finally:
            self._end(run)
            self.wake()

    def _end(self, run: JobRun) -> None:
        del self._running[run.number]
        if run.published is None:
            self.clean_up()
        self._on_end(run)


async def _try(otherwise: str, work: Awaitable[None]) -> None:
    try:
        await work
    except (DatabaseUnavailable, StoreUnavailable) as error:
        logger.warning("%s: %s", otherwise, error.detail)
    except Exception:  # must not stop the server
        logger.exception(otherwise)
