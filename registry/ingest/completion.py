"""Completion of jobs, for requests that wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.types import PublishedVersion, Registration
from registry.catalog.unit_of_work import published
from registry.database.engine import Database
from registry.errors import JobFinished, RegistryError, UnknownVersion
from registry.ingest.runner import JobRun
from registry.models import row_id
from registry.models.job import Job, JobState
from registry.places import Places
from registry.references import tenant_of

MAX_WAITING = 100
_LOOK_SECONDS = 1.0

_ABANDONED: set["asyncio.Task[Registration]"] = set()  # tasks are kept alive by their reference

ReadJob = Callable[[int], Awaitable[Job]]


class _Waiter:
    """One request that waits for the end of an attempt at a job. Several may wait for one job."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.run: JobRun | None = None

    async def next_end(self, seconds: float) -> Registration | None:
        """The version, if an attempt here published it. Raises what made the job fail."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return None
        self.ended.clear()
        run, self.run = self.run, None
        return None if run is None else result_of(run)


class Completions:
    """Waits for a limited number of jobs, shared among tenants.

    What this process ran is reported to it; jobs of other processes are looked up once a second.
    """

    def __init__(self, database: Database, read_job: ReadJob) -> None:
        self._database = database
        self._read_job = read_job
        self._places = Places(MAX_WAITING)
        self._waiting: dict[int, list[_Waiter]] = {}  # by the job's number

    def report(self, run: JobRun) -> None:
        """An attempt at a job has ended here."""
        for waiter in self._waiting.get(run.number, ()):
            waiter.run = run
            waiter.ended.set()

    async def wait(self, job: Job, seconds: float, *, runs_here: bool) -> Registration | Job:
        """What became of the job within this time; the job itself if it is unfinished.

        `runs_here`: an attempt at it will be reported. Raises what made it fail; JobFinished if it
        was cancelled; DatabaseUnavailable.
        """
        tenant = tenant_of(job.adapter)
        if seconds <= 0 or not self._places.has_place(tenant):
            await self._database.wait_durable()  # it may have begun immediately
            return job
        with self._places.hold(tenant):
            waiter = _Waiter()
            waiters = self._waiting.setdefault(job.number, [])
            waiters.append(waiter)
            try:
                return await self._wait(job.number, waiter, seconds, runs_here)
            finally:
                waiters.remove(waiter)
                if not waiters:
                    self._waiting.pop(job.number, None)

    async def _wait(
        self, number: int, waiter: "_Waiter", seconds: float, runs_here: bool
    ) -> Registration | Job:
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        if runs_here and (done := await waiter.next_end(min(seconds, _LOOK_SECONDS))):
            return done
        while True:
            job = await self._read_job(number)
            left = deadline - clock()
            if job.is_finished:
                return await self._result(job)
            if left <= 0:
                return job
            if (done := await waiter.next_end(min(left, _LOOK_SECONDS))) is not None:
                return done

    async def _result(self, job: Job) -> Registration:
        if job.state == JobState.CANCELLED:
            raise JobFinished(job.number, job.state)
        if job.version is None:
            raise _error_of(job)
        return Registration(await self._read_published(job, job.version), created=bool(job.created))

    async def _read_published(self, job: Job, number: int) -> PublishedVersion:
        async with self._database.read_session() as session:
            repository = RegistryRepository(session)
            adapter = await get_adapter(repository, job.adapter)
            version = await repository.version(row_id(adapter), number)
            if version is None:
                raise UnknownVersion(job.adapter, number)
            return await published(session, job.adapter, version)


def result_of(run: JobRun) -> Registration | None:
    """The version that an attempt published; None if it is to be looked up.

    Raises what made the job fail.
    """
    if run.error is not None:
        raise run.error
    return run.registration


def _error_of(job: Job) -> RegistryError:
    """As the server that ran it would have raised."""
    error = RegistryError(job.detail or "")
    error.code = job.code or error.code
    defect = 422  # codes without a class of their own are what inspection found
    statuses = {kind.code: kind.status for kind in _kinds(RegistryError)}
    error.status = statuses.get(error.code, defect)
    return error


def _kinds(of: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)


async def wait_at_most(
    work: Coroutine[Any, Any, Registration], seconds: float
) -> Registration | None:
    """None if it takes longer; then it is cancelled, which a thread that hangs may delay."""
    running = asyncio.create_task(work)
    try:
        await asyncio.wait({running}, timeout=seconds)
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.wait({running})
        raise
    if running.done():
        return running.result()
    _ABANDONED.add(running)
    running.add_done_callback(_forget)
    running.cancel()
    return None


def _forget(task: "asyncio.Task[Registration]") -> None:
    _ABANDONED.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved: its job says what is wrong
