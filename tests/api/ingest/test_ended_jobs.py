"""Ended jobs: what ended one way ends no other way, whatever another server says of it later."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from registry.database.engine import Database
from registry.errors import SourceUnavailable
from registry.events.repository import EventFilter, EventRepository
from registry.ingest.job_store import JobCancelled, JobStore
from registry.ingest.repository import JobRepository
from registry.models import now
from registry.models.job import UNFINISHED, Job, JobState
from registry.sources.base import Progress

pytestmark = pytest.mark.both_databases

Say = Callable[[JobStore, int], Awaitable[object]]
ENDS = sorted(set(JobState) - UNFINISHED)
AWAY = SourceUnavailable("away")
SAID: dict[str, Say] = {
    "begins": lambda jobs, number: jobs.begin(number),
    "is cancelled": lambda jobs, number: jobs.confirm_cancelled(number),
    "fails": lambda jobs, number: jobs.fail(number, "internal_error", "late"),
    "fails for a while": lambda jobs, number: jobs.retry(number, AWAY),
    "goes back to the queue": lambda jobs, number: jobs.requeue(number),
    "moves": lambda jobs, number: jobs.report_progress(number, Progress(), None),
}
"""What a server may say of a job that another one has ended meanwhile."""


def job(state: JobState, **fields: Any) -> Job:
    return Job(
        adapter="bot",
        source="upload",
        request={},
        workspace="w",
        state=state,
        created_by="tests",
        **fields,
    )


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, max_attempts=100, max_tenant_jobs=1)


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("state", ENDS)
async def test_it_stays_as_it_ended(
    jobs: JobStore, database: Database, state: JobState, what: str
) -> None:
    ended = await jobs.add(job(state, version=None, attempts=1, finished_at=now()))
    async with database.read_session() as session:
        before = await JobRepository(session).job(ended.number)
    await SAID[what](jobs, ended.number)
    async with database.read_session() as session:
        after = await JobRepository(session).job(ended.number)
        events = await EventRepository(session).between(0, 2**62, EventFilter(), 10)
    assert before is not None
    assert after is not None
    assert after.model_dump() == before.model_dump()
    assert not events


@pytest.mark.parametrize("state", ENDS)
async def test_an_upload_that_comes_too_late_is_not_queued(jobs: JobStore, state: JobState) -> None:
    ended = await jobs.add(job(state, finished_at=now()))
    with pytest.raises(JobCancelled):
        await jobs.complete_upload(ended.number, {})


async def test_why_one_failed_has_no_secret(jobs: JobStore, database: Database) -> None:
    """An error may quote what a source or a library said of a request."""
    key = f"adp_0123456789ab_{'s' * 43}"
    why = f"https://bot:hunter2@example.com/a answered 500 to {key}"
    number = (await jobs.add(job(JobState.RUNNING))).number
    await jobs.fail(number, "source_unavailable", why)
    async with database.read_session() as session:
        failed = await JobRepository(session).job(number)
        (row,) = await EventRepository(session).between(0, 2**62, EventFilter(), 10)
    told = f"{failed} {row}"
    assert told.count("answered 500") == 2
    assert "hunter2" not in told
    assert "sss" not in told


async def test_no_retry_is_further_away_than_the_longest_wait(
    jobs: JobStore, database: Database
) -> None:
    """Minutes at most: the fiftieth doubling of a second is millions of years."""
    number = (await jobs.add(job(JobState.RUNNING, attempts=50))).number
    assert await jobs.retry(number, AWAY) == JobState.QUEUED
    async with database.read_session() as session:
        queued = await JobRepository(session).job(number)
    assert queued is not None
    assert queued.next_attempt_at is not None
    assert queued.next_attempt_at < now() + timedelta(seconds=376)
