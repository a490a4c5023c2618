"""History of a fleet over HTTP: each replica's under its own name, also what isn't saved yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.bootstrap.history import open_history
from engine.history.recorder import HistoryRecorder
from engine.settings import EngineSettings
from fleet.ingress.history import create_fleet_history_router
from fleet.options import FleetOptions
from registry.cache_history import CacheHistoryStore
from registry.database.engine import Database
from tests.support.cache.controller_harness import A, B, C, settle
from tests.support.cache.fake_fleet import FakeReplica, FakeReplicas, fake_fleet

SETTINGS = EngineSettings(grafana_url="https://grafana.example")
LONG = [f"{'.'.join(['h' * 63] * 4)}:{port}" for port in (8000, 8001)]
NAMES = {name: FleetOptions(model="any").replica_name(name) for name in ("one", "two", *LONG)}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


@dataclass
class ServedFleet:
    replicas: FakeReplicas
    recorders: dict[str, HistoryRecorder]
    http: httpx.AsyncClient

    async def get(self, path: str = "", status: int = 200, **query: Any) -> Any:
        response = await self.http.get(f"/api/v1/cache/history{path}", params=query)
        assert response.status_code == status, response.text
        return response.json()

    async def slots(self, server: str) -> list[str]:
        past = await self.get("/state", server=server, at=datetime.now(UTC).isoformat())
        return [each["reference"] for each in past["cache"]["gpu"]]


@asynccontextmanager
async def served(
    database: Database, *names: str, settings: EngineSettings = SETTINGS
) -> AsyncIterator[ServedFleet]:
    histories = {
        name: await open_history(database, settings, NAMES[name], lambda records: None)
        for name in names
    }
    recorders = {name: each.recorder for name, each in histories.items() if each.recorder}
    there = [FakeReplica(name, recorder=recorders.get(name)) for name in names]
    async with fake_fleet(*there) as replicas:
        app = FastAPI()
        app.include_router(await create_fleet_history_router(database, settings, "fleet", replicas))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield ServedFleet(replicas, recorders, http)


@pytest.mark.both_databases
async def test_each_replica_has_its_own_history_up_to_now(database: Database) -> None:
    async with served(database, "one", "two") as fleet:
        one, two = (each.controlled for each in fleet.replicas.there)
        await one.use(A)
        await fleet.recorders["one"].flush()  # the other's is not saved yet
        await two.use(B)
        await two.use(C)
        await settle()
        found = await fleet.get()
        assert (found["server"], found["servers"]) == ("fleet~one", ["fleet~one", "fleet~two"])
        assert found["grafana"] == "https://grafana.example/d/adaptry-cache"
        assert sum(each["misses"] for each in found["buckets"]) == 1
        assert await fleet.slots("fleet~one") == ["a1:1"]
        assert await fleet.slots("fleet~two") == ["a2:1", "a3:1"]
        others = await fleet.get("/decisions", server="fleet~two")
        assert {each["reference"] for each in others["items"]} == {"a2:1", "a3:1"}
        await fleet.recorders["two"].flush()
        for name in ("fleet~one", "fleet~two"):
            assert (await fleet.get(server=name))["replicas"] == ["fleet~one", "fleet~two"]
        past = await fleet.get("/state", at=datetime.now(UTC).isoformat())
        assert past["replicas"] == ["fleet~one"], "what the other has saved ended before"
        assert (await fleet.get(server="fleet~three", status=404))["code"] == "unknown_server"


@pytest.mark.both_databases
async def test_what_isnt_saved_yet_is_found_of_replicas_with_long_names(database: Database) -> None:
    """Their histories have shortened names."""
    async with served(database, *LONG) as fleet:
        for each, version in zip(fleet.replicas.there, (A, B), strict=True):
            await each.controlled.use(version)
        await settle()
        found = await fleet.get(server=NAMES[LONG[0]])
        assert found["servers"] == sorted(NAMES[name] for name in LONG)
        assert await fleet.slots(NAMES[LONG[0]]) == ["a1:1"]
        assert await fleet.slots(NAMES[LONG[1]]) == ["a2:1"]
        for recorder in fleet.recorders.values():
            await recorder.flush()
        assert await fleet.slots(NAMES[LONG[1]]) == ["a2:1"]


async def test_a_replica_that_is_gone_leaves_its_history_and_no_guess(database: Database) -> None:
    async with served(database, "one", "two") as fleet:
        for each in fleet.replicas.there:
            await each.controlled.use(A)
        await fleet.recorders["one"].flush()
        await fleet.recorders["two"].flush()
        ended = datetime.now(UTC).isoformat()
        fleet.replicas.there = []
        found = await fleet.get()
        assert found["replicas"] == ["fleet~one", "fleet~two"]
        assert sum(each["misses"] for each in found["buckets"]) == 1
        past = await fleet.get("/state", at=ended, server="fleet~two")
        assert past["cache"] is None
        assert past["unknown"]["since"] < ended
        assert past["unknown"]["until"] is None


async def test_only_the_replica_that_is_named_is_asked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console asks for each of them in turn."""
    async with served(database, "one", "two") as fleet:
        await fleet.replicas.there[0].controlled.use(A)
        await fleet.recorders["one"].flush()
        asked: list[str] = []
        call = fleet.replicas.call

        async def counted(name: str, *given: Any, **chosen: Any) -> Any:
            asked.append(name)
            return await call(name, *given, **chosen)

        monkeypatch.setattr(fleet.replicas, "call", counted)
        assert await fleet.slots("fleet~one") == ["a1:1"]
        assert set(asked) == {"unsaved_history"}


async def test_a_page_of_all_replicas_asks_them_once_which_of_them_record(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the page, which asks for the history of each, would ask N replicas N times."""
    async with served(database, "one", "two") as fleet:
        for each in fleet.replicas.there:
            await each.controlled.use(A)
        asked: list[str] = []
        call = fleet.replicas.call

        async def counted(name: str, *given: Any, **chosen: Any) -> Any:
            if not chosen.get("only"):
                asked.append(name)
            return await call(name, *given, **chosen)

        monkeypatch.setattr(fleet.replicas, "call", counted)
        await asyncio.gather(*(fleet.get(server=name) for name in ["fleet~one", "fleet~two"] * 4))
        assert asked == ["records_history"]


async def test_a_fleet_says_why_it_has_none(database: Database) -> None:
    async with served(database) as fleet:
        problem = await fleet.get(status=503)
        assert "no replica has answered yet" in problem["detail"]
    async with served(database, "one") as fleet:
        await fleet.replicas.there[0].controlled.use(A)
        await fleet.recorders["one"].flush()
    off = EngineSettings(history_hours=0)
    async with served(database, "one", settings=off) as fleet:
        assert fleet.recorders == {}
        problem = await fleet.get(status=409)
        assert problem["code"] == "history_off"
        assert "ADAPTRY_HISTORY_HOURS" in problem["detail"]
    store = CacheHistoryStore(database, "fleet", keep_seconds=60, max_bytes=1)
    assert await store.servers() == [], "what was recorded before is deleted"


async def test_a_server_that_became_a_fleet_shows_its_replicas_first(database: Database) -> None:
    alone = await open_history(database, SETTINGS, "fleet", lambda records: None)
    assert alone.recorder is not None
    alone.recorder.watch(FakeReplica("alone").controlled.controller.snapshot)
    await alone.recorder.flush()
    async with served(database, "two") as fleet:
        found = await fleet.get()
        assert (found["server"], found["servers"]) == ("fleet~two", ["fleet", "fleet~two"])
        assert (await fleet.get(server="fleet"))["replicas"] == []
