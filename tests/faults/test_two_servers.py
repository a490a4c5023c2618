"""Two servers on one PostgreSQL and one store; the database stops, and one of the two dies."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS
from tests.support.databases.postgres import PostgresServer, binaries
from tests.support.faults.inject import Harm
from tests.support.servers.adaptry_serve import ROOT, START_SECONDS, ServedDemo
from tests.support.traffic.fault_trial import CHANGES, Kept, trial

pytestmark = [pytest.mark.servers("forked")]

OUTAGE_SECONDS = 10.0
ADAPTERS = ROOT / "demo" / "adapters"
DIRECT_BYTES = 640_000  # all of the demo's; with some more blanks it is a job


@dataclass
class Pair:
    postgres: PostgresServer
    one: ServedDemo
    other: ServedDemo
    harm: Harm  # of `one`
    kept: Kept

    def large(self) -> Path:
        """What does as `reverse`, but is registered as a job."""
        folder = self.one.folder / "large"
        shutil.copytree(ADAPTERS / "reverse", folder)
        with (folder / "adapter_config.json").open("a") as config:
            config.write(" " * 50_000)
        return folder

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
def pair(tmp_path_factory: pytest.TempPathFactory, is_long: bool) -> Iterator[Pair]:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    postgres = PostgresServer(programs)
    folder = tmp_path_factory.mktemp("pair")
    harm = Harm(folder)
    servers = []
    try:
        postgres.start()
        url = postgres.new_database("pair")
        for name in ("one", "other"):
            served = ServedDemo(folder, database=url, max_direct_bytes=str(DIRECT_BYTES))
            served.arguments = ("--source-root", str(folder))
            served.log = folder / f"{name}.log"
            servers.append(served)
        one, other = servers
        one.variables = harm.environment
        for served in servers:
            served.launch()
        for served in servers:
            served.wait_until(served.is_ready, START_SECONDS)
        yield Pair(postgres, one, other, harm, Kept.nothing(is_long))
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


async def test_pins_of_one_are_neither_the_other_s_nor_ended_by_it(pair: Pair) -> None:
    def pins(served: ServedDemo) -> list[str]:
        items = served.client.get("/api/v1/cache/pins").json()["items"]
        return [pin["reference"] for pin in items]

    await asyncio.to_thread(pair.register, "kept", "vowels")
    body = {"reference": "kept", "tier": "host"}
    pinned = await asyncio.to_thread(pair.one.client.post, "/api/v1/cache/pins", json=body)
    assert pinned.status_code == 201, pinned.text
    assert await asyncio.to_thread(pins, pair.other) == []
    refused = await asyncio.to_thread(pair.other.client.delete, "/api/v1/cache/pins/kept")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_pinned")
    pinned = await asyncio.to_thread(pair.other.client.post, "/api/v1/cache/pins", json=body)
    assert pinned.status_code == 201, pinned.text
    await asyncio.to_thread(pair.other.client.delete, "/api/v1/cache/pins/kept")
    assert await asyncio.to_thread(pins, pair.one) == ["kept:1"]
    shown = await asyncio.to_thread(pair.other.client.get, "/api/v1/cache/servers")
    side_by_side = {server["is_this"]: server for server in shown.json()["items"]}
    assert [pin["reference"] for pin in side_by_side[False]["pins"]] == ["kept:1"]
    assert side_by_side[True]["pins"] == []
    await asyncio.to_thread(pair.one.client.delete, "/api/v1/cache/pins/kept")


async def test_what_one_purges_the_other_still_ends_as_it_began(pair: Pair) -> None:
    await asyncio.to_thread(pair.register, "going", "stars")
    await asyncio.to_thread(pair.register, "going", "vowels")
    body = {"model": "going:2", "prompt": "x=", "max_tokens": 150, "ignore_eos": True}
    url = pair.other.url("/v1/completions")
    begun, over = asyncio.Event(), list[str]()

    async def read() -> None:
        async with (
            httpx.AsyncClient(timeout=120, trust_env=False) as client,
            client.stream("POST", url, json={**body, "stream": True}) as response,
        ):
            async for line in response.aiter_lines():
                over.append(line)
                begun.set()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: begun.set())
    await begun.wait()
    assert not reading.done(), over
    path = "/api/v1/adapters/going/versions/2"
    for step in ("retire", "purge"):
        done = await asyncio.to_thread(pair.one.client.post, f"{path}/{step}", json={})
        assert done.status_code == 200, done.text
    await reading
    assert "data: [DONE]" in over
    assert "error" not in "".join(over)

    def refuses() -> bool:
        return pair.other.complete("going:2").status_code == 404

    await asyncio.to_thread(pair.other.wait_until, refuses, 10)


async def test_a_database_that_stands_still_stops_no_answer(pair: Pair) -> None:
    async with trial(
        pair.one, pair.kept, retryable=["database_unavailable"], operators=CHANGES
    ) as running:
        with pair.postgres.standing_still():
            before = running.answered
            await asyncio.sleep(OUTAGE_SECONDS)
            await running.until(lambda: running.answered > before)


async def test_a_database_that_is_lost_is_a_503_until_it_is_back(pair: Pair) -> None:
    async with trial(
        pair.one, pair.kept, retryable=["database_unavailable"], operators=CHANGES
    ) as running:
        before = running.answered
        await asyncio.to_thread(pair.postgres.kill)
        await asyncio.sleep(OUTAGE_SECONDS)
        await running.until(lambda: running.answered > before)
        await asyncio.to_thread(pair.postgres.start)
        await running.until(pair.one.is_ready)
        await running.goes_on()
        changes = running.count("move") - running.count("move: ")
        await running.until(lambda: running.count("move") - running.count("move: ") > changes)
        refused = [what for what in running.world.done if "database_unavailable" in what]
        assert refused


def state_of(served: ServedDemo, job: int) -> str:
    return str(served.client.get(f"/api/v1/jobs/{job}").json()["state"])


async def test_the_other_goes_on_with_what_one_that_was_killed_had_begun(pair: Pair) -> None:
    pair.harm.stop_disk()
    body = {"source": str(pair.large())}
    path = "/api/v1/adapters/taken-over/versions"
    response = await asyncio.to_thread(pair.one.client.post, path, json=body)
    assert response.status_code == 202, response.text
    number = response.json()["id"]

    def has_ended() -> bool:
        return state_of(pair.other, number) == "succeeded"

    def is_running() -> bool:
        return state_of(pair.other, number) == "running"

    # whichever of the two has begun it: only the other's disk answers
    await asyncio.to_thread(pair.other.wait_until, lambda: is_running() or has_ended(), 60)
    await asyncio.to_thread(pair.one.kill)
    await asyncio.to_thread(pair.other.wait_until, has_ended, 60)
    assert await asyncio.to_thread(says, pair.other, "taken-over", "reverse")
