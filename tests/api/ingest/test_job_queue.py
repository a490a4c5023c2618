"""The queue of jobs: draining it is linear in its jobs, and tenants take turns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from registry.database.engine import Database
from registry.ingest import job_queue
from registry.ingest.checkpoints import Checkpoint
from registry.ingest.job_queue import JobQueue
from registry.models import now
from registry.models.job import Job, JobState
from tests.support.databases.noted_statements import noted_statements
from tests.support.servers.registry_in_loop import running_registry

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    """Starts a registry that makes a job of everything."""
    return lambda **settings: running_registry(
        database_url, tmp_path, base_model, max_direct_bytes=0, **settings
    )


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def add(database: Database, *adapters: str) -> list[int]:
    """Queue a job for each; their numbers."""
    async with database.transaction() as session:
        jobs = [
            Job(
                adapter=adapter,
                source="upload",
                request={},
                workspace=f"{adapter}-{n}",
                state=JobState.QUEUED,
                created_by="tests",
            )
            for n, adapter in enumerate(adapters)
        ]
        session.add_all(jobs)
        await session.flush()
        return [job.number for job in jobs]


async def statements_to_drain(start: Start, names: list[str], make: AdapterMaker) -> int:
    """SQL statements of a server that finds these jobs in its queue, until all are done."""
    async with start(works=False) as registry:
        for seed, name in enumerate(names):
            files = [("files", (f.name, f.read_bytes())) for f in make(name, seed=seed).iterdir()]
            answer = await registry.http.post(f"/adapters/{name}/versions?wait=0", files=files)
            assert answer.status_code == 202, answer.text
    left = len(names)
    done = asyncio.Event()

    def on_checkpoint(_: int, reached: Checkpoint) -> None:
        nonlocal left
        left -= reached == Checkpoint.PUBLISHED
        if not left:
            done.set()

    with noted_statements() as statements:
        async with start(watch=on_checkpoint) as registry, asyncio.timeout(60):
            await done.wait()
            await registry.no_leftovers()
    return len(statements)


async def test_the_work_for_a_job_does_not_grow_with_the_queue(
    start: Start, make_adapter: AdapterMaker
) -> None:
    few = await statements_to_drain(start, [f"few-{n}" for n in range(5)], make_adapter)
    many = await statements_to_drain(start, [f"many-{n}" for n in range(40)], make_adapter)
    assert many / 40 < 1.2 * few / 5


@pytest.mark.both_databases
async def test_tenants_take_turns(database: Database) -> None:
    a1, a2, a3, own1, b1, own2, b2 = await add(
        database, "acme~x", "acme~y", "acme~x", "own", "beta~x", "own", "beta~x"
    )
    queue = JobQueue(database)
    queue.look()
    order = []
    while (job := await queue.next(running=[a2])) is not None:
        order.append(job.number)
    assert order == [a1, own1, b1, a3, own2, b2]
    assert job is None


async def test_jobs_behind_those_that_others_hold_are_found(database: Database) -> None:
    held = await add(database, *(f"held-{n}" for n in range(150)))
    (last,) = await add(database, "last")
    queue = JobQueue(database)
    queue.look()
    given = [job.number for _ in range(151) if (job := await queue.next(()))]
    assert given == [*held, last]
    assert await queue.next(()) is None
    queue.look()
    assert await queue.next(()) is not None, "a new look begins again"


async def given_in_a_look(queue: JobQueue) -> list[int]:
    queue.look()
    given = []
    while (job := await queue.next(())) is not None:
        given.append(job.number)
    return given


@pytest.mark.both_databases
async def test_a_look_through_a_long_queue_is_a_few_small_statements(database: Database) -> None:
    """PostgreSQL takes 32,767 parameters at most, and each statement sorts the queue."""
    added = await add(
        database, *(f"acme~{n}" for n in range(2500)), *(f"o-{n}" for n in range(500))
    )
    parameters: list[int] = []

    def count_parameters(_: Any, __: Any, ___: Any, given: Any, *____: Any) -> None:
        parameters.append(len(given))

    event.listen(Engine, "before_cursor_execute", count_parameters)
    try:
        given = await given_in_a_look(JobQueue(database))
    finally:
        event.remove(Engine, "before_cursor_execute", count_parameters)
    assert given[:4] == [added[0], added[2500], added[1], added[2501]]
    assert sorted(given) == added
    assert len(parameters) <= 12
    assert max(parameters) < 20


async def test_the_end_of_a_long_queue_is_looked_at_now_and_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = await add(database, *(f"a-{n}" for n in range(2000)))
    queue = JobQueue(database)
    assert await given_in_a_look(queue) == added
    soon = await given_in_a_look(queue)
    assert 1000 <= len(soon) < 2000
    assert soon == added[: len(soon)]
    monkeypatch.setattr(job_queue, "_FAR_SECONDS", 0)
    assert await given_in_a_look(queue) == added


async def test_a_job_that_comes_during_a_look_is_in_the_next(database: Database) -> None:
    (first,) = await add(database, "first")
    queue = JobQueue(database)
    queue.look()
    assert (await queue.next(())) is not None
    (second,) = await add(database, "second")
    queue.look()
    job = await queue.next([first])
    assert job is not None
    assert job.number == second


@pytest.mark.both_databases
async def test_a_look_at_no_jobs_is_a_short_statement_and_none_until_the_next_commit(
    database: Database, database_url: str
) -> None:
    """A server that has nothing to do looks each second."""
    queue = JobQueue(database)
    for _ in range(2):  # the first one opens the file, which writes to it
        assert await given_in_a_look(queue) == []
    with noted_statements() as idle:
        assert await given_in_a_look(queue) == []
    assert all("row_number" not in statement for statement in idle)
    assert len(idle) == (0 if database_url.startswith("sqlite") else 1)
    other_server = Database(database_url)
    try:
        added = await add(other_server, "a")
    finally:
        await other_server.close()
    assert await given_in_a_look(queue) == added
    assert await given_in_a_look(queue) == added, "as long as it is not done"


@pytest.mark.both_databases
async def test_a_job_that_has_to_wait_is_found_when_its_time_has_come(database: Database) -> None:
    """Without a commit that says so."""
    queue = JobQueue(database)
    (number,) = await add(database, "a")
    soon = now() + timedelta(seconds=0.3)
    async with database.transaction() as session:
        await session.execute(update(Job).values(next_attempt_at=soon))
    assert await given_in_a_look(queue) == []
    while now() < soon:
        await asyncio.sleep(0.1)
    assert await given_in_a_look(queue) == [number]
