"""Jobs over HTTP: what they bring in, how they fail, how they are followed and cancelled."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database.engine import Database
from registry.ingest import runner
from registry.ingest.checkpoints import Checkpoint
from registry.ingest.job_store import JobStore
from registry.models import Tenant
from registry.models.job import Job, JobState
from tests.support.servers.huggingface_hub import COMMIT_1, Repository, hub_server
from tests.support.servers.registry_in_loop import Registry, running_registry
from tests.support.servers.web import Handler, WebServer, web_server

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    """Starts a registry that makes a job of everything."""

    def begin(**settings: Any) -> Any:
        given = {"max_direct_bytes": 0, **settings}
        return running_registry(database_url, tmp_path, base_model, **given)

    return begin


@pytest.fixture
async def registry(start: Start) -> AsyncIterator[Registry]:
    async with start() as running:
        yield running
        await running.no_leftovers()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def publish_on(web: WebServer, make_adapter: AdapterMaker) -> Callable[..., str]:
    """Puts an adapter on the web server; its URL."""

    def publish(name: str, **kind: Any) -> str:
        for file in make_adapter(f"web-{name}", **kind).iterdir():
            web.file(f"/{name}/{file.name}", file.read_bytes(), ETag=f'"{name}"')
        return f"{web.url}/{name}"

    return publish


def hang(web: WebServer, path: str) -> tuple[threading.Event, threading.Event]:
    """Gives half a file and waits: (it was asked for, let it go on)."""
    asked, leave = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        handler.send(200, b"half", {"Content-Length": "5000"})
        asked.set()
        leave.wait(20)

    web.answers[path] = answer
    return asked, leave


# ---- what becomes a version --------------------------------------------------------------


async def test_a_large_local_folder_becomes_a_job_and_then_a_version(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a")
    response = await registry.register("bot", source, description="Says no.")
    assert response.status_code == 202
    queued = response.json()
    assert (queued["adapter"], queued["source"], queued["version"]) == ("bot", str(source), None)
    job = await registry.finished(response)
    total = sum(file.stat().st_size for file in source.iterdir())
    assert (job["state"], job["version"], job["created"]) == ("succeeded", "bot:1", True)
    assert (job["bytes_done"], job["bytes_total"]) == (total, total)
    assert (job["attempts"], job["code"], job["step"]) == (1, None, None)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert version["source"] == str(source)
    assert version["state"] == "ready"
    assert registry.kept() == {version["digest"]}
    assert (await registry.http.get("/adapters/bot")).json()["description"] == "Says no."
    resolved = (await registry.http.get("/resolve", params={"reference": "bot"})).json()
    assert resolved["number"] == 1, "the first version is the default"


async def test_a_small_local_folder_is_registered_directly(
    start: Start, make_adapter: AdapterMaker
) -> None:
    async with start(max_direct_bytes=10_000) as registry:
        response = await registry.register("bot", make_adapter("a"))
        assert response.status_code == 201
        assert response.json()["reference"] == "bot:1"
        assert (await registry.http.get("/jobs")).json()["items"] == []


@pytest.mark.both_databases
async def test_a_url_is_fetched_and_its_secrets_are_forgotten(
    registry: Registry, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    job = await registry.finished(await registry.register("bot", f"{url}?signature=secret"))
    assert job["state"] == "succeeded", job
    assert job["source"] == url
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert (version["source"], version["revision"]) == (url, "a")
    async with registry.service._database.read_session() as session:
        from registry.ingest.repository import JobRepository

        row = await JobRepository(session).job(job["id"])
        assert row is not None
        assert row.fetched_from is None


async def test_a_version_from_the_hub_knows_its_commit(
    start: Start, make_adapter: AdapterMaker
) -> None:
    files = {file.name: file.read_bytes() for file in make_adapter("a").iterdir()}
    with hub_server() as hub:
        hub.repositories["org/bot"] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
        async with start(hub_endpoint=hub.url) as registry:
            job = await registry.finished(await registry.register("bot", "hf://org/bot"))
            assert job["state"] == "succeeded", job
            version = (await registry.http.get("/adapters/bot/versions/1")).json()
            assert (version["source"], version["revision"]) == ("hf://org/bot", COMMIT_1)


async def test_the_same_content_again_is_the_version_that_is_there(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    first = await registry.finished(await registry.register("bot", make_adapter("a")))
    again = await registry.finished(await registry.register("bot", make_adapter("copy")))
    assert (first["version"], first["created"]) == ("bot:1", True)
    assert (again["state"], again["version"], again["created"]) == ("succeeded", "bot:1", False)
    assert len(registry.kept()) == 1


@pytest.mark.both_databases
async def test_concurrent_jobs_get_consecutive_numbers(
    start: Start, make_adapter: AdapterMaker
) -> None:
    async with start(max_ingests=4) as registry:
        sources = [make_adapter(f"a{n}", seed=n) for n in range(8)]
        responses = await asyncio.gather(*(registry.register("bot", s) for s in sources))
        jobs = [await registry.finished(response) for response in responses]
        assert sorted(job["version"] for job in jobs) == [f"bot:{n}" for n in range(1, 9)]


@pytest.mark.both_databases
async def test_no_more_jobs_run_concurrently_than_allowed(
    start: Start, web: WebServer, publish_on: Callable[..., str]
) -> None:
    urls = [publish_on(name, seed=seed) for seed, name in enumerate("abc")]
    async with start(max_ingests=1) as registry:
        asked, leave = hang(web, f"/a/{WEIGHTS}")
        jobs = [(await registry.register("bot", url)).json()["id"] for url in urls]
        assert await asyncio.to_thread(asked.wait, 10)
        states = [(await registry.job(number))["state"] for number in jobs]
        assert states == ["running", "queued", "queued"]
        await registry.http.post(f"/jobs/{jobs[0]}/cancel")
        leave.set()
        ends = [(await registry.end_of(number))["state"] for number in jobs]
        assert ends == ["cancelled", "succeeded", "succeeded"]


# ---- what fails --------------------------------------------------------------------------


async def test_what_inspection_refuses_has_failed_with_its_code(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    job = await registry.finished(await registry.register("bot", make_adapter("a", rank=17)))
    assert (job["state"], job["code"], job["version"]) == ("failed", "rank_too_large", None)
    assert "rank 17" in job["detail"]
    assert (await registry.http.get("/adapters/bot")).status_code == 404
    assert registry.kept() == set()


@pytest.mark.both_databases
async def test_a_failure_of_a_known_adapter_is_in_its_history(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    await registry.finished(await registry.register("bot", make_adapter("a")))
    await registry.finished(await registry.register("bot", make_adapter("b", rank=17)))
    events = (await registry.http.get("/adapters/bot/events")).json()["items"]
    assert [event["kind"] for event in events][-1] == "ingest.failed"
    assert events[-1]["reason"].startswith("job 2: rank_too_large: ")


@pytest.mark.both_databases
async def test_what_may_pass_is_tried_again_after_a_while(
    registry: Registry, web: WebServer, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    good = web.answers[f"/a/{WEIGHTS}"]
    web.fail(f"/a/{WEIGHTS}", 503)
    number = (await registry.register("bot", url)).json()["id"]
    waiting = await registry.until(number, lambda job: job["code"] is not None)
    assert (waiting["state"], waiting["code"]) == ("queued", "source_unavailable")
    assert waiting["next_attempt_at"] > waiting["started_at"]
    assert waiting["attempts"] == 1
    web.answers[f"/a/{WEIGHTS}"] = good
    job = await registry.end_of(number)
    assert (job["state"], job["attempts"], job["code"]) == ("succeeded", 2, None)


async def test_retries_end(start: Start, web: WebServer) -> None:
    async with start(ingest_attempts=2) as registry:
        web.fail(f"/a/{CONFIG}", 500)
        job = await registry.finished(await registry.register("bot", f"{web.url}/a"))
        assert (job["state"], job["attempts"]) == ("failed", 2)
        assert job["code"] == "source_unavailable"
        assert len(web.asked) == 2
        await registry.no_leftovers()


async def test_what_will_not_pass_is_tried_once(registry: Registry, web: WebServer) -> None:
    job = await registry.finished(await registry.register("bot", f"{web.url}/none"))
    assert (job["state"], job["code"], job["attempts"]) == ("failed", "source_not_found", 1)


async def test_a_job_has_its_time(
    start: Start, web: WebServer, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    _, leave = hang(web, f"/a/{WEIGHTS}")
    async with start(ingest_timeout_seconds=0.5) as registry:
        job = await registry.finished(await registry.register("bot", url))
        assert (job["state"], job["code"]) == ("failed", "source_timeout")
        await registry.no_leftovers()
    leave.set()


async def test_a_defect_of_the_server_ends_its_job_and_no_other(
    start: Start, make_adapter: AdapterMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """It would come again with each attempt. What it was stands in the log only."""

    def break_first(number: int, reached: Checkpoint) -> None:
        if (number, reached) == (1, Checkpoint.FETCHED):
            raise KeyError("a defect")

    async with start(watch=break_first) as registry:
        job = await registry.finished(await registry.register("bot", make_adapter("a")))
        assert (job["state"], job["code"], job["attempts"]) == ("failed", "internal_error", 1)
        assert "a defect" not in job["detail"]
        assert "KeyError: 'a defect'" in caplog.text
        other = await registry.finished(await registry.register("bot", make_adapter("b")))
        assert other["state"] == "succeeded"
        await registry.no_leftovers()


async def test_a_source_that_is_deleted_before_its_job_runs(
    start: Start, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a")
    async with start(works=False) as registry:
        number = (await registry.register("bot", source)).json()["id"]
    (source / WEIGHTS).unlink()
    (source / CONFIG).unlink()
    source.rmdir()
    async with start() as registry:
        job = await registry.end_of(number)
        assert (job["state"], job["code"]) == ("failed", "source_not_found")


@pytest.mark.parametrize("place", ["folder", "bucket"])
async def test_a_job_reads_nothing_of_another_tenant(
    start: Start, make_adapter: AdapterMaker, place: str
) -> None:
    """Its own folder may have become a link to one since it was asked for."""
    secret = make_adapter("globex/secret")
    own = secret.parents[1] / "acme" / "bot"
    own.parent.mkdir()
    own.symlink_to(secret)
    job = Job(
        adapter="acme~bot",
        source="acme/bot",
        fetched_from={"folder": str(own), "bucket": "s3://team/globex/secret"}[place],
        request={},
        workspace="a" * 32,
        state=JobState.QUEUED,
        created_by="acme~app",
    )
    async with start() as registry:
        async with registry.service._database.transaction() as session:
            session.add_all([Tenant(name="acme", created_by="tests"), job])
        ended = await registry.end_of(1)
        assert (ended["state"], ended["code"]) == ("failed", "source_not_allowed"), ended


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("https://example.com/a", 403, "source_not_allowed"),
        ("s3://bucket/a", 403, "source_not_allowed"),
        ("ftp://example.com/a", 400, "invalid_source"),
        ("file:///etc", 400, "invalid_source"),
        ("http://user:pw@127.0.0.1/a", 400, "invalid_source"),
        ("hf://org", 400, "invalid_source"),
        ("/etc", 403, "source_not_allowed"),
        ("missing", 404, "source_not_found"),
    ],
)
async def test_what_can_be_refused_immediately_is_no_job(
    registry: Registry, source: str, status: int, code: str
) -> None:
    response = await registry.register("bot", source)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert (await registry.http.get("/jobs")).json()["items"] == []


async def test_bad_requests_are_problems(registry: Registry) -> None:
    for content in (b"", b"{", b"[]", b'{"source": 1}', b'{"source": "x", "y": 1}', b"\xff"):
        response = await registry.http.post("/adapters/bot/versions", content=content)
        assert response.status_code == 422, content
        assert response.json()["code"] == "invalid_request"
    for name, code in (("Bot", "invalid_reference"), ("tiny", "name_reserved")):
        assert (await registry.register(name, "http://127.0.0.1/x")).json()["code"] == code


async def test_a_too_large_local_folder_is_refused_immediately(
    start: Start, make_adapter: AdapterMaker
) -> None:
    async with start(max_adapter_bytes=100) as registry:
        response = await registry.register("bot", make_adapter("a"))
        assert (response.status_code, response.json()["code"]) == (413, "source_too_large")


@pytest.mark.both_databases
async def test_what_no_job_can_have_is_a_bad_request(start: Start) -> None:
    """PostgreSQL refuses such a value, as if it had failed itself."""
    async with start(works=False) as registry:
        for path in ("/jobs/2147483648", "/jobs?adapter=%00", "/jobs?tenant=a%00b"):
            answer = await registry.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path
        for path in ("/jobs/2147483648/cancel", "/jobs/cancel?adapter=%00"):
            answer = await registry.http.post(path)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path


# ---- following and cancelling ------------------------------------------------------------


async def test_progress_is_reported_while_it_runs(
    registry: Registry, web: WebServer, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    asked, leave = hang(web, f"/a/{WEIGHTS}")
    number = (await registry.register("bot", url)).json()["id"]
    assert await asyncio.to_thread(asked.wait, 10)
    config_bytes = len(web_config(web))
    job = await registry.until(number, lambda job: job["bytes_done"] > config_bytes)
    assert (job["state"], job["step"]) == ("running", "fetching")
    assert job["bytes_done"] == config_bytes + len(b"half")
    assert job["bytes_total"] == config_bytes + 5000
    cancelling = (await registry.http.post(f"/jobs/{number}/cancel")).json()
    assert cancelling["cancel_requested"]
    job = await registry.end_of(number)
    assert (job["state"], job["code"], job["version"]) == ("cancelled", None, None)
    leave.set()


def web_config(web: WebServer) -> bytes:
    import urllib.request

    with urllib.request.urlopen(f"{web.url}/a/{CONFIG}") as response:
        content: bytes = response.read()
    assert json.loads(content)
    return content


@pytest.mark.both_databases
async def test_a_cancelled_job_of_a_known_adapter_is_in_its_history(
    registry: Registry, web: WebServer, publish_on: Callable[..., str]
) -> None:
    await registry.finished(await registry.register("bot", publish_on("a")))
    url = publish_on("b", seed=1)
    asked, leave = hang(web, f"/b/{WEIGHTS}")
    number = (await registry.register("bot", url)).json()["id"]
    assert await asyncio.to_thread(asked.wait, 10)
    await registry.http.post(f"/jobs/{number}/cancel")
    assert (await registry.end_of(number))["state"] == "cancelled"
    leave.set()
    events = (await registry.http.get("/adapters/bot/events")).json()["items"]
    assert (events[-1]["kind"], events[-1]["reason"]) == ("ingest.cancelled", f"job {number}")


@pytest.mark.both_databases
async def test_a_queued_job_is_cancelled_directly(start: Start, make_adapter: AdapterMaker) -> None:
    async with start(works=False) as registry:
        number = (await registry.register("bot", make_adapter("a"))).json()["id"]
        cancelled = await registry.http.post(f"/jobs/{number}/cancel")
        assert cancelled.json()["state"] == "cancelled"
        again = await registry.http.post(f"/jobs/{number}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "job_finished")
    async with start() as registry:
        await asyncio.sleep(0.2)
        assert (await registry.job(number))["attempts"] == 0


@pytest.mark.both_databases
async def test_another_server_s_wish_to_cancel_is_heard(
    start: Start, registry: Registry, web: WebServer, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    asked, leave = hang(web, f"/a/{WEIGHTS}")
    number = (await registry.register("bot", url)).json()["id"]
    assert await asyncio.to_thread(asked.wait, 10)
    async with start() as other:
        response = await other.http.post(f"/jobs/{number}/cancel")
        assert response.json()["state"] == "running"
    assert (await registry.end_of(number))["state"] == "cancelled"
    leave.set()


def fail_when_told(web: WebServer, path: str) -> tuple[threading.Event, threading.Event]:
    """Answers 503 once it may: (it was asked for, let it fail)."""
    asked, leave = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        asked.set()
        leave.wait(20)
        handler.send(503, b"no", {})

    web.answers[path] = answer
    return asked, leave


@pytest.mark.both_databases
async def test_a_cancelled_job_whose_attempt_fails_for_a_while_is_not_retried(
    start: Start, registry: Registry, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server was told, and this one has not looked yet."""
    monkeypatch.setattr(runner, "PROGRESS_SECONDS", 60)
    asked, leave = fail_when_told(web, f"/a/{CONFIG}")
    body = {"source": f"{web.url}/a"}
    waiting = asyncio.create_task(registry.http.post("/adapters/bot/versions?wait=30", json=body))
    assert await asyncio.to_thread(asked.wait, 10)
    async with start(works=False) as other:
        assert (await other.http.post("/jobs/1/cancel")).json()["state"] == "running"
    leave.set()
    job = await registry.until(1, lambda job: job["state"] != "running")
    assert (job["state"], job["next_attempt_at"], job["code"]) == ("cancelled", None, None)
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")
    await registry.no_leftovers()


@pytest.mark.both_databases
async def test_a_cancelled_job_ends_with_the_server_that_runs_it(
    start: Start, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the next one, which may not come."""
    monkeypatch.setattr(runner, "PROGRESS_SECONDS", 60)
    asked, leave = hang(web, f"/a/{CONFIG}")
    async with start(works=False) as other, start() as registry:
        await registry.register("bot", f"{web.url}/a")
        assert await asyncio.to_thread(asked.wait, 10)
        await other.http.post("/jobs/1/cancel")
        registry.stop_working()
        job = await other.until(1, lambda job: job["state"] != "running")
        assert (job["state"], job["attempts"]) == ("cancelled", 1)
        await registry.no_leftovers()
    leave.set()


@pytest.mark.both_databases
async def test_two_servers_never_work_on_the_same_job(
    start: Start, registry: Registry, make_adapter: AdapterMaker
) -> None:
    async with start() as other:
        sources = [make_adapter(f"a{n}", seed=n) for n in range(10)]
        servers = [registry, other] * 5
        pairs = zip(servers, sources, strict=True)
        responses = await asyncio.gather(*(server.register("bot", s) for server, s in pairs))
        jobs = [await registry.finished(response) for response in responses]
        assert sorted(int(job["version"][4:]) for job in jobs) == list(range(1, 11))
        assert {job["attempts"] for job in jobs} == {1}


async def test_the_description_of_the_api_leads_nowhere_astray(registry: Registry) -> None:
    url = str(registry.http.base_url).removesuffix("/api/v1/")
    described = (await registry.http.get(f"{url}/openapi.json")).json()
    body = described["paths"]["/api/v1/adapters/{name}/versions"]["post"]["requestBody"]
    assert set(body["content"]) == {"application/json", "multipart/form-data"}
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(described))
    assert len(set(references)) > 5
    for reference in references:
        found = described
        for part in reference.split("/"):
            found = found[part]
        assert found


async def test_jobs_that_are_not_there(registry: Registry) -> None:
    for method, path in (("GET", "/jobs/99"), ("POST", "/jobs/99/cancel")):
        response = await registry.http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (404, "unknown_job")
    only_post = await registry.http.get("/jobs/cancel?state=queued")
    assert (only_post.status_code, only_post.headers["allow"]) == (405, "POST")
    for path in ("/jobs/0", "/jobs/x", "/jobs?state=lost", "/jobs?limit=0"):
        assert (await registry.http.get(path)).status_code == 422
    assert (await registry.http.get("/jobs?page_token=!")).status_code == 400


@pytest.mark.both_databases
async def test_jobs_are_listed_by_page_state_and_adapter(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    for n in range(5):
        name = "bot" if n % 2 == 0 else "other"
        source = make_adapter(f"a{n}", seed=n, rank=4 if n else 17)
        await registry.finished(await registry.register(name, source))

    async def listed(**query: Any) -> list[int]:
        page = (await registry.http.get("/jobs", params=query)).json()
        return [job["id"] for job in page["items"]]

    assert await listed() == [5, 4, 3, 2, 1]
    assert await listed(state="failed") == [1]
    assert await listed(adapter="other") == [4, 2]
    first = (await registry.http.get("/jobs", params={"limit": 2})).json()
    await registry.finished(await registry.register("bot", make_adapter("late", seed=9)))
    assert [job["id"] for job in first["items"]] == [5, 4]
    assert await listed(limit=2, page_token=first["next_page_token"]) == [3, 2]
    last = (await registry.http.get("/jobs", params={"limit": 6})).json()
    assert last["next_page_token"] is None


# ---- a server that ends in an orderly way --------------------------------------------------


@pytest.mark.both_databases
async def test_a_server_that_ends_hands_its_jobs_to_the_next(
    start: Start, web: WebServer, publish_on: Callable[..., str]
) -> None:
    url = publish_on("a")
    good = web.answers[f"/a/{WEIGHTS}"]
    asked, leave = hang(web, f"/a/{WEIGHTS}")
    async with start() as registry:
        number = (await registry.register("bot", url)).json()["id"]
        assert await asyncio.to_thread(asked.wait, 10)
    leave.set()
    web.answers[f"/a/{WEIGHTS}"] = good
    async with start() as registry:
        job = await registry.end_of(number)
        assert (job["state"], job["attempts"]) == ("succeeded", 1), "an interruption is no failure"
        await registry.no_leftovers()


async def test_a_version_that_is_being_written_is_written(
    start: Start, make_adapter: AdapterMaker
) -> None:
    """A server that ends in that moment does not leave it to the next one."""
    written: list[int] = []
    ending: list[Registry] = []

    def end_while_writing(number: int, reached: Checkpoint) -> None:
        if reached == Checkpoint.WRITTEN:
            written.append(number)
            loop.call_soon_threadsafe(ending[0].stop_working)

    loop = asyncio.get_running_loop()
    async with start(watch=end_while_writing) as registry:
        ending.append(registry)
        job = await registry.finished(await registry.register("bot", make_adapter("a")))
        assert (job["state"], job["version"], written) == ("succeeded", "bot:1", [1])


@pytest.mark.both_databases
async def test_jobs_of_long_ago_are_forgotten(start: Start, make_adapter: AdapterMaker) -> None:
    async with start() as registry:
        await registry.finished(await registry.register("bot", make_adapter("a")))
    async with start(job_retention_days=1e-9) as registry:
        async with asyncio.timeout(10):
            while (await registry.http.get("/jobs")).json()["items"]:
                await asyncio.sleep(0.02)
        assert (await registry.http.get("/adapters/bot/versions/1")).status_code == 200


@pytest.mark.both_databases
async def test_a_wish_to_cancel_in_the_last_moment_leaves_no_version(
    start: Start, make_adapter: AdapterMaker, database_url: str
) -> None:
    """It is read in the transaction that would write the version."""

    def at_the_last_moment(number: int, reached: Checkpoint) -> None:
        async def cancel() -> None:
            database = Database(database_url)
            await JobStore(database, max_attempts=1, max_tenant_jobs=1).cancel(number, "tests")
            await database.close()

        if reached == Checkpoint.KEPT:
            thread = threading.Thread(target=lambda: asyncio.run(cancel()))
            thread.start()
            thread.join()

    async with start(watch=at_the_last_moment) as registry:
        job = await registry.finished(await registry.register("bot", make_adapter("a")))
        assert (job["state"], job["version"]) == ("cancelled", None)
        assert (await registry.http.get("/adapters/bot")).status_code == 404
        await registry.no_leftovers()
        assert registry.kept() == set()


@pytest.mark.both_databases
async def test_what_is_published_can_not_be_cancelled(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    job = await registry.finished(await registry.register("bot", make_adapter("a")))
    response = await registry.http.post(f"/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["code"]) == (409, "job_finished")
    assert (await registry.http.get("/adapters/bot/versions/1")).status_code == 200


@pytest.mark.both_databases
async def test_what_is_said_of_a_version_comes_with_its_job(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    await registry.finished(await registry.register("bot", make_adapter("a")))
    said = {
        "tags": ["fast", "German"],
        "metadata": {"steps": 3},
        "parent": "bot:1",
        "training_run": "run-1",
        "dataset": "letters",
    }
    job = await registry.finished(await registry.register("bot", make_adapter("b", seed=1), **said))
    assert job["version"] == "bot:2"
    version = (await registry.http.get("/adapters/bot/versions/2")).json()
    assert {key: version[key] for key in said} == {**said, "tags": ["German", "fast"]}
    assert [v["number"] for v in await found(registry, tag="fast")] == [2]


async def found(registry: Registry, **conditions: str) -> list[Any]:
    items: list[Any] = (await registry.http.get("/versions", params=conditions)).json()["items"]
    return items


async def test_a_job_whose_parent_is_unknown_fails(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    job = await registry.finished(
        await registry.register("bot", make_adapter("a"), parent="nobody:1")
    )
    assert (job["state"], job["code"]) == ("failed", "unknown_adapter")
    assert (await registry.http.get("/adapters/bot")).status_code == 404


async def test_too_much_metadata_is_refused_before_anything_is_fetched(
    registry: Registry, publish_on: Callable[..., str]
) -> None:
    answer = await registry.register("bot", publish_on("a"), metadata={"x": "y" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "metadata_too_large")


@pytest.mark.parametrize("tag", ["\xff" * 3, "a" * 1000])
async def test_an_entity_tag_may_be_anything(
    registry: Registry, web: WebServer, make_adapter: AdapterMaker, tag: str
) -> None:
    """No database stores half a character, and PostgreSQL no more than it has room for."""
    for file in make_adapter("odd").iterdir():
        web.file(f"/odd/{file.name}", file.read_bytes(), ETag=f'"{tag}"')
    job = await registry.finished(await registry.register("bot", f"{web.url}/odd"))
    assert (job["state"], job["code"]) == ("succeeded", None), job["detail"]
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert version["revision"] == ("a" * 256 if tag.startswith("a") else "?" * 3)
