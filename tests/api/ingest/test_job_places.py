"""Places of jobs: one whose source stands still holds up nobody. A tenant's jobs are bounded."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from registry.ingest import job_places
from registry.ingest.job_places import MAX_STILL, JobPlaces
from registry.ingest.repository import DueJob
from registry.models import Tenant
from registry.sources import local
from tests.support.servers.registry_in_loop import Registry, running_registry

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    return lambda **settings: running_registry(database_url, tmp_path, base_model, **settings)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Files of folders named `hung…` wait for it."""
    answers, open_regular = threading.Event(), local.open_regular

    def wait_and_open(file: Path, *arguments: Any) -> BinaryIO:
        if file.parent.name.startswith("hung"):
            assert answers.wait(60)
        return open_regular(file, *arguments)

    monkeypatch.setattr(local, "open_regular", wait_and_open)
    monkeypatch.setattr("registry.sources.threads.HUNG_SECONDS", 0.2)
    monkeypatch.setattr(job_places, "STILL_SECONDS", 0.1)
    yield answers
    answers.set()


async def queue(registry: Registry, name: str, folder: Path) -> int:
    answer = await registry.http.post(
        f"/adapters/{name}/versions?wait=0", json={"source": str(folder)}
    )
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


async def test_jobs_whose_folders_hang_leave_their_places_to_others(
    start: Start, make_adapter: AdapterMaker, answers: threading.Event
) -> None:
    """More of the platform's than there are places, and each ends once its folder answers."""
    async with start(max_ingests=2) as registry:
        hung = [
            await queue(registry, f"bot-{n}", make_adapter(f"hung-{n}", seed=n)) for n in range(4)
        ]
        good = await queue(registry, "other", make_adapter("good", seed=9))
        assert (await registry.end_of(good))["state"] == "succeeded"
        states = {(await registry.job(number))["state"] for number in hung}
        assert states == {"running"}
        answers.set()
        ends = {(await registry.end_of(number))["state"] for number in hung}
        assert ends == {"succeeded"}
        await registry.no_leftovers()
        places = registry.ingest._workers._places
        async with asyncio.timeout(20):  # they are given back after the answer
            while places._moving.taken or places._still.taken:
                await asyncio.sleep(0.02)


def due(owner: str, tenant: str | None = None) -> DueJob:
    return DueJob(1, "w", tenant, None, owner)


def test_an_owner_has_no_more_than_its_share_of_jobs_that_stand_still() -> None:
    woken: list[bool] = []
    places = JobPlaces(2, lambda: woken.append(True))
    begun = 0
    while places.has_place(due("/mnt/nas"), is_short=False):
        assert places.stand_aside(places.take(due("/mnt/nas"), is_short=False))
        begun += 1
    assert begun == len(woken) == MAX_STILL // 2
    assert places.has_place(due("/mnt/other"), is_short=False)
    assert places.has_place(due("acme", "acme"), is_short=False)
    assert places.has_place(due("/mnt/nas"), is_short=True), "a small upload hangs on nothing"


def test_a_job_that_may_not_stand_aside_keeps_its_place() -> None:
    places = JobPlaces(MAX_STILL, lambda: None)
    held = [places.take(due("acme", "acme"), is_short=False) for _ in range(MAX_STILL // 2 + 1)]
    assert [places.stand_aside(each) for each in held] == [True] * (MAX_STILL // 2) + [False]
    for each in held:
        places.give_back(each)
    assert places.has_place(due("acme", "acme"), is_short=False)


@pytest.mark.both_databases
async def test_a_tenant_has_a_bounded_number_of_jobs(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """Whatever way they come; other tenants and the platform have theirs."""
    folder = make_adapter("a")
    files = [("files", (file.name, file.read_bytes())) for file in folder.iterdir()]

    async def ask(registry: Registry, name: str, **body: Any) -> Any:
        return await registry.http.post(f"/adapters/{name}/versions?wait=0", **body)

    async with start(works=False, max_tenant_jobs=3) as registry:
        async with registry.service._database.transaction() as session:
            session.add_all([Tenant(name=name, created_by="tests") for name in ("acme", "globex")])
        sent = [ask(registry, f"acme~x{n}", json={"source": str(folder)}) for n in range(8)]
        answers = await asyncio.gather(*sent)
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
        bodies: list[dict[str, Any]] = [{"json": {"source": str(folder)}}, {"files": files}]
        for body in bodies:
            refused = await ask(registry, "acme~y", **body)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
            assert int(refused.headers["retry-after"]) > 0
            for name in ("globex~y", "y"):
                assert (await ask(registry, name, **body)).status_code == 202
        first = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
        await registry.http.post(f"/jobs/{first}/cancel")
        assert (await ask(registry, "acme~y", json={"source": str(folder)})).status_code == 202
