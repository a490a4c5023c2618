"""Two servers on one PostgreSQL and one store; the database stops, and one of the two dies."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.tasks import TASKS
from tests.postgres import PostgresServer, binaries
from tests.support.harm import Harm
from tests.support.served import ROOT, START_SECONDS, ServedDemo
from tests.support.trial import CHANGES, Kept, trial

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

OUTAGE_SECONDS = 10.0
ADAPTERS = ROOT / "demo" / "adapters"


@dataclass
class Pair:
    postgres: PostgresServer
    one: ServedDemo
    other: ServedDemo
    harm: Harm  # of `one`
    kept: Kept

    def register(self, name: str, does: str) -> dict[str, Any]:
        body = {"source": str(ADAPTERS / does)}
        response = self.one.client.post(f"/api/v1/adapters/{name}/versions", json=body)
        assert response.status_code == 201, response.text
        version: dict[str, Any] = response.json()
        return version


def says(served: ServedDemo, model: str, does: str) -> bool:
    response = served.complete(model)
    if response.status_code != 200:
        return False
    return bool(response.json()["choices"][0]["text"] == TASKS[does].answer("hello"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    postgres = PostgresServer(programs)
    folder = tmp_path_factory.mktemp("pair")
    harm = Harm(folder)
    servers = []
    try:
        postgres.start()
        postgres.sql("CREATE DATABASE pair")
        for name in ("one", "other"):
            served = ServedDemo(folder, database=postgres.url("pair"))
            served.log = folder / f"{name}.log"
            servers.append(served)
        one, other = servers
        one.variables = harm.environment
        for served in servers:
            served.launch()
        for served in servers:
            served.wait_until(served.is_ready, START_SECONDS)
        yield Pair(postgres, one, other, harm, Kept())
    finally:
        for served in servers:
            served.stop()
            served.client.close()
        postgres.remove()


async def test_what_one_registers_and_promotes_the_other_serves(pair: Pair) -> None:
    await asyncio.to_thread(pair.register, "shared", "upper")
    for served in (pair.one, pair.other):
        assert await asyncio.to_thread(says, served, "shared", "upper")
    second = await asyncio.to_thread(pair.register, "shared", "double")
    move = {"version": second["number"]}
    path = "/api/v1/adapters/shared/aliases/default"
    moved = await asyncio.to_thread(pair.one.client.put, path, json=move)
    assert moved.status_code == 200, moved.text
    follows = partial(says, pair.other, "shared", "double")
    await asyncio.to_thread(pair.other.wait_until, follows, 10)


async def test_one_purges_nothing_that_the_other_has_pinned(pair: Pair) -> None:
    await asyncio.to_thread(pair.register, "pinned", "stars")
    await asyncio.to_thread(pair.register, "pinned", "vowels")
    pin = {"reference": "pinned:2", "tier": "host"}
    answer = await asyncio.to_thread(pair.other.client.post, "/api/v1/cache/pins", json=pin)
    assert answer.status_code == 201, answer.text
    path = "/api/v1/adapters/pinned/versions/2"
    retired = await asyncio.to_thread(pair.one.client.post, f"{path}/retire", json={})
    assert retired.status_code == 200, retired.text
    refused = await asyncio.to_thread(pair.one.client.post, f"{path}/purge", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "version_in_use")
    unpinned = await asyncio.to_thread(
        pair.other.client.delete, "/api/v1/cache/pins/pinned:2"
    )
    assert unpinned.status_code == 200, unpinned.text
    purged = await asyncio.to_thread(pair.one.client.post, f"{path}/purge", json={})
    assert purged.status_code == 200, purged.text


def server_processes(postgres: PostgresServer) -> list[psutil.Process]:
    pid = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children(recursive=True)]


async def test_a_database_that_stands_still_stops_no_answer(pair: Pair) -> None:
    async with trial(
        pair.one, pair.kept, retryable=["database_unavailable"], operators=CHANGES
    ) as running:
        processes = server_processes(pair.postgres)
        for process in processes:
            process.suspend()
        began = time.monotonic()
        try:
            await running.goes_on(20)
            await asyncio.sleep(began + OUTAGE_SECONDS - time.monotonic())
        finally:
            for process in processes:
                process.resume()


async def test_a_database_that_is_gone_is_a_503_until_it_is_back(pair: Pair) -> None:
    async with trial(
        pair.one, pair.kept, retryable=["database_unavailable"], operators=CHANGES
    ) as running:
        await asyncio.to_thread(pair.postgres.kill)
        await running.goes_on(20)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(pair.postgres.start)
        await running.until(pair.one.is_ready)
        await running.goes_on()
        changes = running.count("move") - running.count("move: ")
        await running.until(lambda: running.count("move") - running.count("move: ") > changes)
        refused = [what for what in running.world.done if "database_unavailable" in what]
        assert refused


def upload_elsewhere(pair: Pair) -> int:
    """A job that `one` has begun and can't go on with; its number."""
    pair.harm.stop_disk()
    body = {"source": str(ADAPTERS / "reverse")}
    path = "/api/v1/adapters/taken-over/versions?wait=false"
    response = pair.one.client.post(path, json=body)
    assert response.status_code == 202, response.text
    return int(response.json()["number"])


async def test_the_other_goes_on_with_what_one_that_was_killed_had_begun(pair: Pair) -> None:
    assert os.environ is not None
    assert signal.SIGKILL
    assert Path
