"""A database outage while a job runs: nothing is lost, and the job is started again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from registry.catalog.types import Registration
from registry.errors import DatabaseUnavailable
from registry.ingest.job_store import JobStore
from registry.ingest.pipeline import open_workspace
from registry.ingest.precedence import NO_REQUESTS
from registry.ingest.runner import JobRun, JobRunner
from registry.inspection.base_model import BaseModel
from registry.models.job import Job, JobState
from registry.service import RegistryService
from registry.sources.base import Progress
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.support.servers.registry_in_loop import Registry, running_registry

pytestmark = pytest.mark.only_postgresql

AdapterMaker = Callable[..., Path]


class Outage(JobStore):
    """Can't be reached in one method."""

    at = ""

    async def begin(self, number: int) -> Job | None:
        self._fail("begin")
        return await super().begin(number)

    async def succeed(
        self, session: AsyncSession, job: Job, progress: Progress, registration: Registration
    ) -> None:
        self._fail("succeed")
        await super().succeed(session, job, progress, registration)

    async def fail(self, number: int, code: str, detail: str) -> None:
        self._fail("fail")
        await super().fail(number, code, detail)

    def _fail(self, at: str) -> None:
        if at == self.at:
            raise DatabaseUnavailable("the database can't be used now: gone")


async def attempt(registry: Registry, service: RegistryService, at: str) -> None:
    """One attempt at job 1."""
    job_store = Outage(service._database, max_attempts=5, max_tenant_jobs=1)
    job_store.at = at
    sources = RemoteSources((), EgressGuard())
    runner = JobRunner(
        service.registrar, service.store, job_store, sources, NO_REQUESTS, timeout_seconds=60
    )
    row = await registry.ingest.job(1)
    workspace = await open_workspace(service.store, row.workspace)
    assert workspace is not None
    await runner.run(JobRun(1, Progress()), workspace)


@pytest.mark.parametrize(
    ("at", "state"), [("begin", JobState.QUEUED), ("succeed", JobState.QUEUED)]
)
async def test_an_upload_survives_an_outage(
    database_url: str,
    tmp_path: Path,
    base_model: BaseModel,
    make_adapter: AdapterMaker,
    at: str,
    state: JobState,
) -> None:
    files = [("files", (file.name, file.read_bytes())) for file in make_adapter("a").iterdir()]
    async with running_registry(database_url, tmp_path, base_model, works=False) as registry:
        response = await registry.http.post("/adapters/bot/versions?wait=0", files=files)
        assert response.status_code == 202
        await attempt(registry, registry.service, at)
        assert (await registry.job(1))["state"] == state
        assert (await registry.http.get("/adapters/bot")).status_code == 404
    async with running_registry(database_url, tmp_path, base_model) as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["version"], job["code"]) == ("succeeded", "bot:1", None)
        await registry.no_leftovers()
        assert len(registry.kept()) == 1


async def test_a_failure_that_could_not_be_written_is_found_again(
    database_url: str, tmp_path: Path, base_model: BaseModel, make_adapter: AdapterMaker
) -> None:
    async def begin(**settings: Any) -> Any:
        return running_registry(database_url, tmp_path, base_model, max_direct_bytes=0, **settings)

    async with await begin(works=False) as registry:
        await registry.register("bot", make_adapter("a", rank=17))
        await attempt(registry, registry.service, "fail")
        assert (await registry.job(1))["state"] == "running"
    async with await begin() as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["code"], job["attempts"]) == ("failed", "rank_too_large", 2)
        await asyncio.sleep(0)
        await registry.no_leftovers()
