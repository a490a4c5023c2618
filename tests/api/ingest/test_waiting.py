"""Requests that wait for their registration: the version if it is done in time, else the job."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.errors import DatabaseUnavailable
from registry.ingest.checkpoints import Checkpoint
from registry.ingest.job_store import JobStore
from registry.models.job import Job
from registry.models.tenant import Tenant
from registry.sources.disks.reads import MAX_READS
from registry.sources.local import LocalSource
from tests.support.servers.registry_in_loop import Registry, running_registry

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]

PATH = "/adapters/bot/versions"


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    return lambda **settings: running_registry(database_url, tmp_path, base_model, **settings)


async def send(
    registry: Registry, folder: Path, wait: float | None = None, path: str = PATH
) -> httpx.Response:
    files = [("files", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
    query = {} if wait is None else {"wait": wait}
    return await registry.http.post(path, files=files, params=query, timeout=30)


async def test_a_small_upload_is_answered_with_its_version(
    start: Start, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    async with start() as registry:
        first = await send(registry, folder)
        again = await send(registry, folder)
        assert (first.status_code, again.status_code) == (201, 200), first.text
        assert first.json()["reference"] == again.json()["reference"] == "bot:1"
        assert first.json()["source"] == "upload"
        jobs = (await registry.http.get("/jobs")).json()["items"]
        assert [(job["state"], job["attempts"]) for job in jobs] == [("succeeded", 1)] * 2
        await registry.no_leftovers()


async def test_a_job_that_is_not_waited_for_is_told_once_it_is_on_the_disk(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """Its attempt begins before."""
    is_free = threading.Event()

    def sync(_: int) -> None:
        assert is_free.wait(20)

    async with start() as registry:
        assert (await send(registry, make_adapter("a"))).status_code == 201
        registry.ingest._database._log._sync = sync
        sending = asyncio.create_task(send(registry, make_adapter("b", seed=1), wait=0))
        done, _ = await asyncio.wait({sending}, timeout=0.5)
        assert not done
        is_free.set()
        job = await registry.finished(await sending)
        assert (job["state"], job["version"]) == ("succeeded", "bot:2")


async def test_what_is_wrong_with_a_small_upload_is_its_answer(
    start: Start, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    (folder / "adapter_model.safetensors").write_bytes(b"nothing of the kind")
    async with start() as registry:
        refused = await send(registry, folder)
        (job,) = (await registry.http.get("/jobs")).json()["items"]
        assert refused.status_code == 422, refused.text
        assert (job["state"], job["code"]) == ("failed", refused.json()["code"])


async def test_a_job_that_is_not_done_in_time_is_the_answer(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """Here none is ever done: nothing works on jobs."""
    async with start(works=False) as registry:
        began = time.monotonic()
        answer = await send(registry, make_adapter("a"), wait=0.3)
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == "queued"
        assert answer.headers["location"] == f"/api/v1/jobs/{answer.json()['id']}"
        assert time.monotonic() - began >= 0.3


async def test_a_large_upload_is_waited_for_only_if_told(
    start: Start, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    async with start(max_direct_bytes=0) as registry:
        assert (await send(registry, folder, wait=20)).status_code == 201
        assert (await send(registry, folder)).status_code == 202
        bad = make_adapter("b", seed=1)
        (bad / "adapter_config.json").write_text("{}")
        assert (await send(registry, bad, wait=20)).status_code == 422


async def test_another_server_may_run_the_job(start: Start, make_adapter: AdapterMaker) -> None:
    """The server that was asked runs none itself, and looks at the table."""
    bad = make_adapter("b", seed=1)
    (bad / "adapter_config.json").write_text("{}")
    async with start(works=False) as asked, start():
        done = await send(asked, make_adapter("a"), wait=20)
        assert (done.status_code, done.json().get("reference")) == (201, "bot:1"), done.text
        refused = await send(asked, bad, wait=20)
        assert (refused.status_code, refused.json()["code"]) == (422, "not_lora"), refused.text


async def test_a_cancelled_job_is_a_conflict(start: Start, make_adapter: AdapterMaker) -> None:
    async with start(works=False) as registry:
        waiting = asyncio.create_task(send(registry, make_adapter("a"), wait=20))
        async with asyncio.timeout(10):
            while not (jobs := (await registry.http.get("/jobs")).json()["items"]):
                await asyncio.sleep(0.02)
        await registry.http.post(f"/jobs/{jobs[0]['id']}/cancel")
        answer = await waiting
        assert (answer.status_code, answer.json()["code"]) == (409, "job_finished"), answer.text


async def test_who_finds_no_place_to_wait_has_the_job_at_once(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that waits holds a connection and looks for its job every second."""
    monkeypatch.setattr("registry.ingest.completion.MAX_WAITING", 1)
    async with start(works=False) as registry:
        first = asyncio.create_task(send(registry, make_adapter("a"), wait=4))
        async with asyncio.timeout(10):
            while not (await registry.http.get("/jobs")).json()["items"]:
                await asyncio.sleep(0.02)
        second = await send(registry, make_adapter("b"), wait=4)
        assert second.status_code == 202, second.text
        assert not first.done()
        assert (await first).status_code == 202


async def test_a_source_is_waited_for_if_told(start: Start, make_adapter: AdapterMaker) -> None:
    folder = make_adapter("a")
    async with start() as registry:
        job = await registry.http.post(f"{PATH}?wait=0", json={"source": str(folder)})
        assert (await registry.finished(job))["version"] == "bot:1"
        done = await registry.http.post(f"{PATH}?wait=5", json={"source": str(folder)})
        assert (done.status_code, done.json()["reference"]) == (200, "bot:1")


async def test_only_the_job_of_this_name_is_joined_while_it_is_wanted(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """As a server does that is given adapters, and is started again."""
    source = str(make_adapter("a"))
    async with start(works=False) as registry:
        await registry.http.post(f"{PATH}?wait=0", json={"source": source})
        assert await registry.ingest.join("other", source, 0) is None
        joined = await registry.ingest.join("bot", source, 0)
        assert isinstance(joined, Job)
        async with registry.service._database.transaction() as session:
            row = await session.get(Job, joined.number)
            assert row is not None
            row.cancel_requested = True
        assert await registry.ingest.join("bot", source, 0) is None


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon"])
async def test_the_wait_has_bounds(start: Start, make_adapter: AdapterMaker, wait: str) -> None:
    async with start(works=False) as registry:
        answer = await registry.http.post(f"{PATH}?wait={wait}", json={"source": "x"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def waiting_uploads(registry: Registry) -> int:
    return sum(map(len, registry.ingest._workers._turns._lines.values()))


async def test_small_uploads_take_turns_between_tenants(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """One tenant has three in line before the platform's comes: that one is second."""
    order: list[int] = []

    def watch(job: int, checkpoint: Checkpoint) -> None:
        if checkpoint == Checkpoint.FETCHING:
            order.append(job)

    async with start(max_ingests=1, max_uploads=16, watch=watch) as registry:
        assert await registry.ingest._workers.take_turn(None, within_seconds=0)
        async with registry.service._database.transaction() as session:
            session.add(Tenant(name="acme", created_by="tests"))
        folders = [make_adapter(f"a{n}", seed=n) for n in range(4)]
        names = ["acme~a", "acme~b", "acme~c", "own"]
        sending = []
        for name, folder in zip(names, folders, strict=True):
            path = f"/adapters/{name}/versions"
            sending.append(asyncio.create_task(send(registry, folder, path=path)))
            while waiting_uploads(registry) < len(sending):
                await asyncio.sleep(0.01)
        registry.ingest._workers.give_back_turn()
        answers = await asyncio.gather(*sending)
        assert [a.status_code for a in answers] == [201] * 4, answers[0].text
        jobs = (await registry.http.get("/jobs")).json()["items"]
        adapters = {job["id"]: job["adapter"] for job in jobs}
        assert [adapters[job] for job in order] == ["acme~a", "own", "acme~b", "acme~c"]


async def test_small_uploads_that_could_not_be_written_keep_no_turn(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of an outage would let one fewer run, until every later one waits for a turn."""

    async def fail(*_: Any) -> Any:
        raise DatabaseUnavailable("away")

    folder = make_adapter("a")
    async with start(max_ingests=1) as registry:
        with monkeypatch.context() as outage:
            outage.setattr(JobStore, "add", fail)
            for _ in range(2):
                refused = await send(registry, folder)
                assert (refused.status_code, refused.json()["code"]) == (
                    503,
                    "database_unavailable",
                )
        workers = registry.ingest._workers
        assert await workers.take_turn(None, within_seconds=0)
        workers.give_back_turn()
        assert (await send(registry, folder)).status_code == 201
        await registry.no_leftovers()


async def test_a_small_folder_that_can_not_be_read_in_time_becomes_a_job(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network disk that hangs: the request is answered, and the job does the rest."""
    folder, copy, goes_on = make_adapter("a"), LocalSource.copy, threading.Event()

    def hang(*arguments: Any) -> Any:
        goes_on.wait(20)
        return copy(*arguments)

    monkeypatch.setattr(LocalSource, "copy", hang)
    async with start() as registry:
        try:
            async with asyncio.timeout(10):
                answer = await registry.http.post(f"{PATH}?wait=0.2", json={"source": str(folder)})
        finally:
            goes_on.set()
        assert answer.status_code == 202, answer.text
        assert (await registry.finished(answer))["version"] == "bot:1"
        await registry.no_leftovers()


async def test_folders_on_a_disk_that_hangs_stop_nothing_else(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the threads that everything else shares, the database among it."""
    hung, good, goes_on = make_adapter("a"), make_adapter("b", seed=1), threading.Event()
    shared = 2
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(shared))
    monkeypatch.setattr("registry.sources.disks.reads.LOOK_SECONDS", 0.2)
    monkeypatch.setattr(LocalSource, "size_bytes", lambda _: goes_on.wait(60))
    async with start() as registry:
        try:
            for _ in range(shared + 1):
                refused = await registry.register("bot", hung)
                assert (refused.status_code, refused.json()["code"]) == (504, "source_timeout")
            async with asyncio.timeout(20):
                assert (await send(registry, good, wait=10)).status_code == 201
        finally:
            goes_on.set()


async def test_beyond_a_number_of_hung_reads_a_folder_waits_and_is_read_once_they_return(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looks, goes_on = make_adapter("a"), list[int](), threading.Event()
    look = LocalSource.size_bytes

    def hang(source: LocalSource) -> int:
        looks.append(1)
        goes_on.wait(60)
        return look(source)

    monkeypatch.setattr("registry.sources.disks.reads.LOOK_SECONDS", 0.2)
    monkeypatch.setattr(LocalSource, "size_bytes", hang)
    async with start() as registry:
        try:
            asked = [registry.register("bot", folder) for _ in range(MAX_READS + 4)]
            answers = await asyncio.gather(*asked)
            assert {answer.status_code for answer in answers} == {504}
            assert len(looks) == MAX_READS // 2, "the others were given up before they began"
        finally:
            goes_on.set()
        monkeypatch.setattr("registry.sources.disks.reads.LOOK_SECONDS", 60)
        assert (await registry.register("bot", folder)).status_code == 201
