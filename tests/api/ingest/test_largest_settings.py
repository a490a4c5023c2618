"""Largest settings: each value that a start accepts is one that every job and webhook can have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from registry.database.engine import Database
from registry.errors import SourceUnavailable
from registry.ingest.job_store import JobStore
from registry.models import Tenant
from registry.models.job import Job, JobState
from registry.settings import MOST_ROWS, RegistrySettings
from tests.support.servers.registry_in_loop import running_registry

AdapterMaker = Callable[..., Path]

LARGEST: dict[str, Any] = {
    "max_tenant_jobs": MOST_ROWS,
    "job_retention_days": 36_500,
    "webhook_timeout_seconds": 3600,
}


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("beyond", [2, float("inf")])
def test_what_no_date_or_row_can_have_prevents_the_start(name: str, beyond: float) -> None:
    RegistrySettings(**{name: LARGEST[name]})
    with pytest.raises(ValidationError, match=name):
        RegistrySettings(**{name: LARGEST[name] * beyond})


@pytest.mark.both_databases
async def test_jobs_run_with_the_largest(
    database_url: str, tmp_path: Path, base_model: Any, make_adapter: AdapterMaker
) -> None:
    """Cleanup comes before the jobs: a date that can't be had kept them all waiting."""
    settings = {**LARGEST, "max_direct_bytes": 0, "ingest_attempts": 2**31}
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        async with registry.service._database.transaction() as session:
            session.add(Tenant(name="acme", created_by="tests"))
        job = await registry.finished(await registry.register("acme~bot", make_adapter("a")))
        assert (job["state"], job["version"]) == ("succeeded", "acme~bot:1"), job


async def test_an_attempt_of_thousands_is_retried_as_any_other(database: Database) -> None:
    store = JobStore(database, max_attempts=10_000, max_tenant_jobs=1)
    job = Job(
        adapter="bot",
        source="hf://org/some",
        request={},
        workspace="w",
        state=JobState.RUNNING,
        attempts=5_000,
        created_by="tests",
    )
    number = (await store.add(job)).number
    assert await store.retry(number, SourceUnavailable("away")) == JobState.QUEUED
