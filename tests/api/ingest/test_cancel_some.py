"""Cancellation of all jobs that match: by state, adapter and tenant."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from registry.api import ingest
from registry.ingest.runner import JobRunner
from registry.models.job import Job, JobState
from tests.support.servers.registry_in_loop import Json, Registry, running_registry

AdapterMaker = Callable[..., Path]

NAMES = ("a", "a", "acme~b", "acme~c", "other~d")


@pytest.fixture
async def registry(database_url: str, tmp_path: Path, base_model: Any) -> AsyncIterator[Registry]:
    """Five jobs wait; nothing runs them."""
    async with running_registry(database_url, tmp_path, base_model, works=False) as running:
        async with running.service._database.transaction() as session:
            session.add_all(
                Job(
                    adapter=name,
                    source="hf://org/some",
                    request={},
                    workspace=f"w{number}",
                    state=JobState.QUEUED,
                    created_by="tests",
                )
                for number, name in enumerate(NAMES)
            )
        yield running


async def cancelled(registry: Registry, query: str = "") -> Json:
    response = await registry.http.post(f"/jobs/cancel{query}")
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


async def left(registry: Registry) -> list[str]:
    jobs = (await registry.http.get("/jobs?state=queued")).json()["items"]
    return sorted(job["adapter"] for job in jobs)


@pytest.mark.parametrize(
    ("query", "count", "remaining"),
    [
        ("", 5, []),
        ("?state=queued", 5, []),
        ("?state=running", 0, sorted(NAMES)),
        ("?state=succeeded", 0, sorted(NAMES)),
        ("?adapter=a", 2, ["acme~b", "acme~c", "other~d"]),
        ("?tenant=acme", 2, ["a", "a", "other~d"]),
        ("?tenant=acme&adapter=acme~c", 1, ["a", "a", "acme~b", "other~d"]),
        ("?tenant=nobody", 0, sorted(NAMES)),
    ],
)
async def test_what_matches_is_cancelled_and_nothing_else(
    registry: Registry, query: str, count: int, remaining: list[str]
) -> None:
    assert await cancelled(registry, query) == {"cancelled": count, "more": False}
    assert await left(registry) == remaining
    events = (await registry.http.get("/events")).json()["items"]
    assert [event["kind"] for event in events] == ["ingest.cancelled"] * count
    assert await cancelled(registry, query) == {"cancelled": 0, "more": False}


async def test_a_request_cancels_so_many_at_most(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first, and the answer says that there may be more."""
    monkeypatch.setattr(ingest, "MAX_CANCELLED", 2)
    assert await cancelled(registry) == {"cancelled": 2, "more": True}
    assert await left(registry) == ["acme~b", "acme~c", "other~d"]
    await run(registry, "cancel", "--all")
    assert await left(registry) == []


async def test_a_running_job_is_told_to_stop(
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends as cancelled once its work has stopped."""

    async def endless(*_: object) -> Endless:
        return Endless()

    monkeypatch.setattr(JobRunner, "_source", endless)
    async with running_registry(database_url, tmp_path, base_model, max_direct_bytes=0) as registry:
        job = await registry.register("bot", make_adapter("a"))
        number = job.json()["id"]
        await registry.until(number, lambda job: job["state"] == "running")
        assert (await cancelled(registry, "?state=running"))["cancelled"] == 1
        assert (await registry.end_of(number))["state"] == "cancelled"


async def test_what_was_told_to_stop_does_not_count_again(registry: Registry) -> None:
    """A job of another server's: it is still running, and `more` would never end."""
    async with registry.service._database.transaction() as session:
        session.add(
            Job(
                adapter="a",
                source="hf://org/some",
                request={},
                workspace="w",
                state=JobState.RUNNING,
                created_by="tests",
            )
        )
    assert await cancelled(registry, "?state=running") == {"cancelled": 1, "more": False}
    assert await cancelled(registry, "?state=running") == {"cancelled": 0, "more": False}


async def test_a_job_that_is_cancelled_again_has_one_event(registry: Registry) -> None:
    async with registry.service._database.transaction() as session:
        job = await session.get(Job, 1)
        assert job is not None
        job.state = JobState.RUNNING
    for _ in range(2):
        assert (await registry.http.post("/jobs/1/cancel")).json()["cancel_requested"]
    events = (await registry.http.get("/events")).json()["items"]
    assert [event["kind"] for event in events] == ["ingest.cancelled"]


async def test_a_cancelled_upload_that_waited_leaves_nothing(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    """Not even until the next cleanup: here is none."""
    files = [("files", (file.name, file.read_bytes())) for file in make_adapter("up").iterdir()]
    queued = await registry.http.post("/adapters/up/versions?wait=0", files=files)
    assert registry.leftovers()
    cancelling = await registry.http.post(f"/jobs/{queued.json()['id']}/cancel")
    assert cancelling.json()["state"] == "cancelled"
    assert registry.leftovers() == []


class Endless:
    async def fetch(self, *_: object) -> None:
        await asyncio.sleep(60)


async def run(registry: Registry, *arguments: str) -> int:
    url = registry.http.base_url
    server = f"http://{url.host}:{url.port}"
    return await asyncio.to_thread(main, ["job", *arguments, "--server", server])


async def test_the_command_says_how_many(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(registry, "list", "--tenant", "acme", "--limit", "1") == 0
    assert "acme~c" in (listed := capsys.readouterr().out)
    assert "acme~b" not in listed
    assert await run(registry, "cancel", "--tenant", "acme") == 0
    assert capsys.readouterr().out == "2 cancelled\n"
    assert await run(registry, "cancel", "--all", "--json") == 0
    assert '"cancelled": 3' in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("1", "--all")])
async def test_the_command_does_not_guess_which(
    registry: Registry, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(registry, "cancel", *arguments) != 0
    assert "--all" in capsys.readouterr().err
    assert await left(registry) == sorted(NAMES)
