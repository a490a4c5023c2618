"""A server that is killed at any step: the next one goes on, and nothing half done is left."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.ingest.checkpoints import Checkpoint
from registry.inspection.base_model import BaseModel
from tests.support.servers import crashing_worker
from tests.support.servers.crashing_worker import COPYING, DIRECT_FETCHED, DIRECT_KEPT, POINTS
from tests.support.servers.forks import forked_process
from tests.support.servers.registry_in_loop import Json, Registry, running_registry

pytestmark = pytest.mark.both_databases

ROOT = Path(__file__).resolve().parents[3]

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]
Crash = Callable[..., None]


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: BaseModel) -> Start:
    return lambda **settings: running_registry(database_url, tmp_path, base_model, **settings)


@pytest.fixture
def crash(database_url: str, tmp_path: Path, base_model: BaseModel) -> Crash:
    """Runs a server in a process of its own until it kills itself at the point."""

    def run(point: str, source: Path | str = "") -> None:
        arguments = (database_url, tmp_path, base_model, point, str(source))
        process = forked_process(crashing_worker.run, arguments)
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL

    return run


async def assert_one_version(registry: Registry, job: Json, attempts: int) -> None:
    assert (job["state"], job["version"], job["created"]) == ("succeeded", "bot:1", True), job
    assert job["attempts"] == attempts
    versions = (await registry.http.get("/adapters/bot/versions")).json()["items"]
    assert [version["number"] for version in versions] == [1]
    events = (await registry.http.get("/adapters/bot/events")).json()["items"]
    assert [event["kind"] for event in events] == ["version.registered", "alias.moved"]
    assert registry.kept() == {versions[0]["digest"]}
    await registry.no_leftovers()


@pytest.mark.parametrize("point", POINTS)
async def test_a_job_that_was_cut_short_is_ended_by_the_next_server(
    start: Start, crash: Crash, make_adapter: AdapterMaker, point: str
) -> None:
    crash(point, make_adapter("a"))
    async with start() as registry:
        published = point == Checkpoint.PUBLISHED
        await assert_one_version(registry, await registry.end_of(1), 1 if published else 2)


@pytest.mark.parametrize(
    "point", [COPYING, Checkpoint.FETCHED, Checkpoint.KEPT, Checkpoint.WRITTEN]
)
async def test_an_upload_is_not_lost_in_a_crash(
    start: Start, crash: Crash, make_adapter: AdapterMaker, point: str
) -> None:
    files = [("files", (file.name, file.read_bytes())) for file in make_adapter("a").iterdir()]
    async with start(works=False) as registry:
        response = await registry.http.post("/adapters/bot/versions?wait=0", files=files)
        assert response.status_code == 202
    crash(point)
    async with start() as registry:
        await assert_one_version(registry, await registry.end_of(1), 2)


async def test_a_job_whose_server_died_before_it_began(
    start: Start, make_adapter: AdapterMaker
) -> None:
    async with start(works=False) as registry:
        response = await registry.register("bot", make_adapter("a"))
        assert response.status_code == 201
    async with start(works=False, max_direct_bytes=0) as registry:
        response = await registry.register("other", make_adapter("b", seed=1))
        assert response.status_code == 202
    async with start() as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["version"], job["attempts"]) == ("succeeded", "other:1", 1)


@pytest.mark.parametrize(
    "point", [COPYING, Checkpoint.FETCHED, Checkpoint.KEPT, Checkpoint.WRITTEN]
)
async def test_a_job_that_can_not_go_on_fails_with_a_reason_and_leaves_nothing(
    start: Start, crash: Crash, make_adapter: AdapterMaker, point: str
) -> None:
    source = make_adapter("a")
    crash(point, source)
    shutil.rmtree(source)
    async with start() as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["code"]) == ("failed", "source_not_found")
        assert (await registry.http.get("/adapters/bot")).status_code == 404
        await registry.no_leftovers()
        assert registry.kept() == set()


async def test_files_that_another_version_got_meanwhile_stay(
    start: Start, crash: Crash, make_adapter: AdapterMaker
) -> None:
    """The crash left them without a row; then another adapter got the same content."""
    source = make_adapter("a")
    crash(Checkpoint.KEPT, source)
    async with start(works=False) as registry:
        other = await registry.register("other", make_adapter("same"))
        assert other.status_code == 201
    shutil.rmtree(source)
    async with start() as registry:
        assert (await registry.end_of(1))["state"] == "failed"
        await registry.no_leftovers()
        assert registry.kept() == {other.json()["digest"]}


async def test_a_job_that_kills_every_server_is_given_up(
    start: Start, crash: Crash, make_adapter: AdapterMaker
) -> None:
    crash(Checkpoint.INSPECTED, make_adapter("a"))
    crash(Checkpoint.INSPECTED)
    async with start(ingest_attempts=2) as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["code"], job["attempts"]) == ("failed", "ingest_interrupted", 2)
        await registry.no_leftovers()


async def test_a_job_that_was_to_be_cancelled_is_cancelled_by_the_next_server(
    start: Start, crash: Crash, make_adapter: AdapterMaker
) -> None:
    crash(Checkpoint.INSPECTED, make_adapter("a"))
    async with start(works=False) as registry:
        cancelling = await registry.http.post("/jobs/1/cancel")
        assert (cancelling.json()["state"], cancelling.json()["cancel_requested"]) == (
            "running",
            True,
        )
    async with start() as registry:
        assert (await registry.end_of(1))["state"] == "cancelled"
        assert (await registry.http.get("/adapters/bot")).status_code == 404
        await registry.no_leftovers()


@pytest.mark.parametrize("point", [DIRECT_FETCHED, DIRECT_KEPT])
async def test_a_direct_registration_that_was_cut_short_leaves_nothing(
    start: Start, crash: Crash, make_adapter: AdapterMaker, point: str
) -> None:
    source = make_adapter("a")
    crash(point, source)
    async with start(works=False) as registry:
        assert registry.leftovers()
        assert len(registry.kept()) == (point == DIRECT_KEPT)
    async with start() as registry:
        await registry.no_leftovers()
        assert registry.kept() == set()
        assert (await registry.http.get("/adapters/bot")).status_code == 404
        assert (await registry.register("bot", source)).status_code == 201


async def test_an_upload_that_was_cut_short_by_a_crash_has_failed(
    start: Start, tmp_path: Path, database_url: str, base_model: BaseModel
) -> None:
    """The server is killed while the body still comes."""
    program = (
        "import asyncio, sys, pathlib\n"
        "from registry.inspection.base_model import BaseModel\n"
        "from tests.support.servers.registry_in_loop import running_registry\n"
        "async def main():\n"
        "    base = BaseModel('tiny', None)\n"
        "    folder = pathlib.Path(sys.argv[2])\n"
        "    async with running_registry(sys.argv[1], folder, base) as registry:\n"
        "        print(registry.http.base_url.port, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, database_url, str(tmp_path)]
    server = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        port = int(await server.stdout.readline())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /api/v1/adapters/bot/versions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            b'Content-Disposition: form-data; name="f"; filename="adapter_config.json"\r\n\r\n{'
        )
        await writer.drain()
        async with start(works=False) as registry:
            async with asyncio.timeout(20):  # a body that takes a while has a job
                while not (await registry.http.get("/jobs")).json()["items"]:
                    await asyncio.sleep(0.05)
            job = await registry.until(1, lambda job: job["bytes_done"] > 0)
            assert job["state"] == "receiving"
    finally:
        server.kill()
        await server.communicate()
    writer.close()
    async with start() as registry:
        job = await registry.end_of(1)
        assert (job["state"], job["code"]) == ("failed", "upload_interrupted")
        await registry.no_leftovers()
