"""Job states in the database; each transition is one transaction."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from random import uniform

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.catalog.repository import RegistryRepository
from registry.catalog.types import Registration
from registry.database.engine import Database
from registry.database.observer import add_committed_row
from registry.database.row_insert import insert_row
from registry.errors import JobFinished, RegistryError, TooManyJobs, UnknownJob
from registry.ingest.repository import CLEARED_AT_END, JobFilter, JobRepository
from registry.models import Event, EventKind, now, row_id
from registry.models.job import Job, JobState, JobStep
from registry.quotas.repository import QuotaRepository
from registry.redaction import redact
from registry.references import tenant_of
from registry.sources.base import Progress

_MAX_DETAIL = 1024
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0
_MOST_DOUBLINGS = 20


class JobCancelled(Exception):
    """Raised where work on a cancelled job would continue."""


class JobStore:
    """State transitions of jobs. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, *, max_attempts: int, max_tenant_jobs: int) -> None:
        self._database = database
        self._max_attempts, self._max_tenant_jobs = max_attempts, max_tenant_jobs

    async def check_room(self, adapter: str) -> None:
        """Before anything is read: `add` decides. Raises TooManyJobs."""
        if (tenant := tenant_of(adapter)) is not None:
            async with self._database.read_session() as session:
                await self._check_room(session, tenant)

    async def add(self, job: Job) -> Job:
        """Raises TooManyJobs. One whose attempt begins immediately: not, nor is it reported yet."""
        tenant, waits = tenant_of(job.adapter), job.state != JobState.RUNNING
        if tenant is None or not waits:
            await self._database.run(partial(insert_row, row=job), for_catalog=False, is_told=waits)
            return job
        async with self._database.transaction(for_catalog=False) as session:
            await QuotaRepository(session).lock_tenant(tenant)
            await self._check_room(session, tenant)
            return await JobRepository(session).add(job)

    async def _check_room(self, session: AsyncSession, tenant: str) -> None:
        most = self._max_tenant_jobs
        if await JobRepository(session).unfinished(tenant, up_to=most) >= most:
            raise TooManyJobs(most, tenant)

    async def add_failed(self, job: Job, error: RegistryError) -> None:
        """Add the job of a request that was refused before it had a row."""
        async with self._database.transaction() as session:
            await JobRepository(session).add(job)
            await _finish(session, job, JobState.FAILED, error.code, error.detail)

    async def complete_upload(self, number: int, request: dict[str, object]) -> Job:
        """Queue a job whose upload is complete. Raises JobCancelled."""
        async with self._database.transaction(for_catalog=False) as session:
            job = await _get_job(session, number)
            if job.cancel_requested or job.is_finished:
                raise JobCancelled
            job.state = JobState.QUEUED
            job.request = {**request, "address": job.address}
            return job

    async def begin(self, number: int) -> Job | None:
        """Begin an attempt; None if there is nothing to do for this job."""
        async with self._database.transaction() as session:
            job = await _get_job(session, number)
            if job.is_finished:
                return None
            if job.cancel_requested:
                await _finish(session, job, JobState.CANCELLED)
            elif job.state == JobState.RECEIVING:
                detail = "the upload was not complete when the server or the client left"
                await _finish(session, job, JobState.FAILED, "upload_interrupted", detail)
            elif job.attempts >= self._max_attempts:
                detail = f"the server ended {job.attempts} times while it worked on this"
                await _finish(session, job, JobState.FAILED, "ingest_interrupted", detail)
            else:
                begin_attempt(job)
                return job
        return None

    async def report_progress(self, number: int, progress: Progress, step: JobStep | None) -> None:
        """Save progress. Raises JobCancelled if cancellation was requested."""
        async with self._database.transaction(for_catalog=False) as session:
            job = await _get_job(session, number)
            if job.cancel_requested:
                raise JobCancelled
            if not job.is_finished:
                job.bytes_done, job.bytes_total = progress.bytes_done, progress.bytes_total
                job.step = step

    async def succeed(
        self, session: AsyncSession, job: Job, progress: Progress, registration: Registration
    ) -> None:
        """Finish the job in the transaction that writes its version. Raises JobCancelled.

        `job`: as it was when its attempt began; it stays so, as the transaction may fail.
        """
        outcome = {
            "version": registration.published.version.number,
            "created": registration.created,
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
            "finished_at": now(),
        }
        if not await JobRepository(session).succeed(job.number, outcome):
            raise JobCancelled
        before = {name: getattr(job, name) for name in Job.model_fields}
        finished = Job(**{**before, **CLEARED_AT_END, **outcome, "state": JobState.SUCCEEDED})
        add_committed_row(session, finished)

    async def retry(self, number: int, error: RegistryError) -> JobState:
        """Queue another attempt with a delay, unless it was the last; the state after that."""
        async with self._database.transaction() as session:
            job = await _get_job(session, number)
            if job.is_finished:
                return JobState(job.state)
            if job.cancel_requested:
                await _finish(session, job, JobState.CANCELLED)
            elif job.attempts >= self._max_attempts:
                await _finish(session, job, JobState.FAILED, error.code, error.detail)
            else:
                job.state, job.step = JobState.QUEUED, None
                job.code, job.detail = error.code, _storable(error.detail)
                job.next_attempt_at = now() + timedelta(seconds=_wait_seconds(job.attempts))
            return JobState(job.state)

    async def requeue(self, number: int) -> JobState:
        """Return the job to the queue at shutdown; this attempt does not count."""
        async with self._database.transaction(for_catalog=False) as session:
            job = await _get_job(session, number)
            if job.state == JobState.RUNNING and job.cancel_requested:
                await _finish(session, job, JobState.CANCELLED)
            elif job.state == JobState.RUNNING:
                job.state, job.step = JobState.QUEUED, None
                job.attempts -= 1
            return JobState(job.state)

    async def fail(self, number: int, code: str, detail: str) -> None:
        async with self._database.transaction() as session:
            job = await _get_job(session, number)
            if not job.is_finished:
                await _finish(session, job, JobState.FAILED, code, detail)

    async def cancel(self, number: int, actor: str) -> Job:
        """Cancel it, or request that of the server running it. Raises UnknownJob, JobFinished."""
        async with self._database.transaction() as session:
            job = await _get_job(session, number)
            if job.is_finished:
                raise JobFinished(number, job.state)
            await _cancel(session, job, actor)
            return job

    async def cancel_some(self, wanted: JobFilter, actor: str, limit: int) -> Sequence[Job]:
        """As `cancel`, the oldest of these jobs for which that was not requested before."""
        async with self._database.transaction() as session:
            jobs = await JobRepository(session).to_cancel(wanted, limit)
            for job in jobs:
                await _cancel(session, job, actor)
            return jobs

    async def confirm_cancelled(self, number: int) -> None:
        """The work on a job whose cancellation was requested has stopped."""
        async with self._database.transaction() as session:
            job = await _get_job(session, number)
            if not job.is_finished:
                await _finish(session, job, JobState.CANCELLED)


def begin_attempt(job: Job) -> None:
    job.state = JobState.RUNNING
    job.attempts += 1
    job.started_at = job.started_at or now()
    job.next_attempt_at = None


async def _get_job(session: AsyncSession, number: int) -> Job:
    job = await JobRepository(session).job(number, lock=True)
    if job is None:
        raise UnknownJob(number)
    return job


async def _cancel(session: AsyncSession, job: Job, actor: str) -> None:
    if not job.cancel_requested:
        event = Event(actor=actor, address=client_address(), kind=EventKind.INGEST_CANCELLED)
        await _add_event(session, job, event)
    job.cancel_requested = True
    if job.state == JobState.QUEUED:
        await _finish(session, job, JobState.CANCELLED)


async def _finish(
    session: AsyncSession,
    job: Job,
    state: JobState,
    code: str | None = None,
    detail: str | None = None,
) -> None:
    """Only failures get an event here: success has the version's, cancellation its requester's."""
    job.state = state
    for name, value in CLEARED_AT_END.items():
        setattr(job, name, value)
    job.code, job.detail = code, _storable(detail)
    job.finished_at = now()
    if state == JobState.FAILED:
        kind = EventKind.INGEST_FAILED
        event = Event(actor=job.created_by, address=job.address, kind=kind)
        await _add_event(session, job, event, f": {code}: {detail}")


async def _add_event(session: AsyncSession, job: Job, event: Event, why: str = "") -> None:
    """The adapter does not exist if it has no version yet."""
    repository = RegistryRepository(session)
    adapter = await repository.adapter(job.adapter)
    event.adapter_id = None if adapter is None else row_id(adapter)
    event.reason = _storable(f"job {job.number}{why}")
    event.data = {"job": job.number, "adapter": job.adapter}
    await repository.add(event)


def _storable(text: str | None) -> str | None:
    """Text that any database can store: no lone surrogate, no NUL, not too long."""
    if text is None:
        return None
    return redact(text).encode(errors="replace").decode().replace("\0", "")[:_MAX_DETAIL]


def _wait_seconds(attempts: int) -> float:
    """Exponential backoff with jitter."""
    doubled: float = _FIRST_WAIT_SECONDS * 2 ** min(attempts - 1, _MOST_DOUBLINGS)
    return min(doubled, _LONGEST_WAIT_SECONDS) * uniform(0.75, 1.25)
