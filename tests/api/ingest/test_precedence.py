"""Requests that wait for a first token come before registrations, which rest so long."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.gateway.in_flight import RequestsInFlight
from registry.database.engine import Database
from registry.ingest import precedence
from registry.ingest.checkpoints import Checkpoint
from registry.ingest.precedence import Rest
from tests.support.servers.registry_in_loop import Registry, running_registry

PATH = "/adapters/bot/versions"


async def send(registry: Registry, folder: Path) -> httpx.Response:
    files = [("files", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
    return await registry.http.post(PATH, files=files)


@pytest.mark.parametrize("after", [None, Checkpoint.FETCHING, Checkpoint.INSPECTED])
async def test_a_registration_rests_between_its_steps_until_the_first_token(
    after: Checkpoint | None,
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`after`: the request comes then; None: it was there before the upload."""
    monkeypatch.setattr(precedence, "REST_SECONDS", 60.0)
    requests, asked, reached = RequestsInFlight(lambda: None), [], []
    requests.begin().begin_answer()  # an earlier one, which waits no more

    def watch(_: int, checkpoint: Checkpoint) -> None:
        reached.append(checkpoint)
        if checkpoint == after:
            asked.append(requests.begin())

    if after is None:
        asked.append(requests.begin())
    async with running_registry(
        database_url, tmp_path, base_model, watch=watch, requests=requests
    ) as registry:
        sending = asyncio.create_task(send(registry, make_adapter("a")))
        done, _ = await asyncio.wait({sending}, timeout=1)
        assert not done
        assert Checkpoint.WRITTEN not in reached
        asked[0].begin_answer()
        assert (await sending).status_code == 201
        assert Checkpoint.PUBLISHED in reached


async def test_a_transaction_rests_in_its_thread_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "REST_SECONDS", 60.0)
    requests = RequestsInFlight(lambda: None)
    awaited = requests.begin()
    rest, database = Rest(requests), Database(f"sqlite:///{tmp_path}/resting.db")
    resting = asyncio.create_task(database.run(lambda _: rest.take()))
    done, _ = await asyncio.wait({resting}, timeout=0.3)
    assert not done
    awaited.begin_answer()
    await resting
    await database.close()


async def test_a_registration_rests_no_longer_than_it_may(
    database_url: str, tmp_path: Path, base_model: Any, make_adapter: Callable[..., Path]
) -> None:
    """The first token never comes."""
    requests = RequestsInFlight(lambda: None)
    requests.begin()
    async with running_registry(database_url, tmp_path, base_model, requests=requests) as registry:
        assert (await send(registry, make_adapter("a"))).status_code == 201
        assert requests.is_first_token_awaited()
