"""History of the cache over HTTP: past states, counts, decisions, gaps, tenants, servers."""

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.api.history import create_history_router
from engine.history.reader import HistoryReader
from engine.history.recorder import HistoryRecorder
from engine.history.span import unpack
from engine.types import AdapterVersion, Tier
from registry.auth.caller import Caller
from registry.auth.scopes import EVERY_SCOPE
from registry.cache_history import CacheHistoryStore, HistoryRow
from registry.database.engine import Database
from registry.http.authentication import AuthenticationMiddleware
from tests.support.cache.controller_harness import A, B, C, Cache, adapter, running, settle

START = 1_700_000_040.0  # a whole minute
THEIRS, OURS = adapter(8, "acme~theirs"), adapter(9, "other~ours")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


@dataclass
class Served:
    """A server with two slots. `http`: of a caller that is the platform, or a tenant."""

    clock: Clock
    recorder: HistoryRecorder
    cache: Cache
    http: httpx.AsyncClient

    async def use(self, seconds: float, *versions: AdapterVersion) -> None:
        """One after another, at that time."""
        self.clock.now = START + seconds
        for version in versions:
            await self.cache.use(version)
        await settle()

    async def get(
        self, path: str = "", query: Mapping[str, Any] | None = None, status: int = 200
    ) -> Any:
        response = await self.http.get(f"/api/v1/cache/history{path}", params=query)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


@asynccontextmanager
async def served(
    database: Database,
    *,
    name: str = "here",
    clock: Clock | None = None,
    hours: float = 24,
    tenant: bool = False,
) -> AsyncIterator[Served]:
    clock = clock or Clock()
    store = CacheHistoryStore(database, name, keep_seconds=hours * 3600, max_bytes=10**6)
    recorder = HistoryRecorder(store, clock=clock)
    cache = Cache(slots=2, host=3, besides=recorder, clock=clock)
    recorder.watch(cache.controller.snapshot)
    app = FastAPI()
    reader = HistoryReader(store, recorder if hours else None)
    app.include_router(create_history_router(reader, "https://grafana.example/g/", clock))
    headers = {}
    if tenant:
        app.add_middleware(AuthenticationMiddleware, authenticate=_their_tenant)
        headers = {"authorization": "Bearer any"}
    transport = httpx.ASGITransport(app)
    async with (
        running(cache),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http,
    ):
        yield Served(clock, recorder, cache, http)


async def _their_tenant(_: str) -> Caller:
    return Caller("acme~boss", EVERY_SCOPE)


def residents(past: Any, tier: str = "gpu") -> dict[str, int | None]:
    return {each["reference"]: each["slot"] for each in past["cache"][tier]}


@pytest.mark.both_databases
async def test_what_was_in_the_slots_and_who_evicted_whom(database: Database) -> None:
    async with served(database) as server:
        await server.use(10, A, B)
        await server.use(70, C)
        await server.recorder.flush()
        await server.use(130, A)
        server.clock.now = START + 200
        assert residents(await server.get("/state", {"at": at(5)})) == {}
        assert residents(await server.get("/state", {"at": at(60)})) == {"a1:1": 0, "a2:1": 1}
        past = await server.get("/state", {"at": at(100)})
        assert residents(past) == {"a2:1": 1, "a3:1": 0}
        assert set(residents(past, "host")) == {"a1:1", "a2:1", "a3:1"}
        assert past["cache"]["gpu"][0]["since"].startswith(at(70)[:19])
        assert past["cache"]["engine_up"]
        assert past["cache"]["exact"]
        found = await server.get("/decisions", {"from": at(60), "to": at(100)})
        left = [each for each in found["items"] if each["kind"] == "evicted"]
        assert [(each["reference"], each["for_reference"], each["slot"]) for each in left] == [
            ("a1:1", "a3:1", 0)
        ]
        assert left[0]["sentence"].startswith("evicted from GPU slot 0 for a3:1")


@pytest.mark.both_databases
async def test_counts_over_time_and_where_nothing_is_known(database: Database) -> None:
    clock = Clock()
    async with served(database, clock=clock) as server:
        await server.use(10, A, A, A, B)
        await server.use(70, C)
        clock.now = START + 100
        await server.recorder.flush()
    clock.now = START + 400  # it was off in between
    async with served(database, clock=clock) as server:
        await server.use(410, A)
        clock.now = START + 420
        found = await server.get("", {"from": at(0), "to": at(420), "buckets": 7})
        assert found["bucket_seconds"] == 60
        buckets = found["buckets"]
        assert [(each["hits"], each["misses"], each["evictions"]) for each in buckets] == [
            (2, 2, 0),
            (0, 1, 1),
            *[(0, 0, 0)] * 4,
            (0, 1, 0),
        ]
        recorded = [each["recorded_seconds"] for each in buckets]
        assert recorded == pytest.approx([60, 40, 0, 0, 0, 0, 20], abs=0.1)
        [gap] = found["unknown"]
        assert gap["since"].startswith(at(100)[:19])
        assert gap["until"].startswith(at(400)[:19])
        assert found["grafana"] == "https://grafana.example/g/d/adaptry-cache"
        past = await server.get("/state", {"at": at(300)})
        assert past["cache"] is None, "what was in the slots is not invented"
        assert past["unknown"] == gap
        assert (await server.get("/state", {"at": at(-60)}))["unknown"]["since"] is None
        one = await server.get("", {"from": at(0), "adapter": "a1"})
        assert sum(each["hits"] + each["misses"] for each in one["buckets"]) == 4


async def test_what_happens_after_a_quiet_hour_is_counted_when_it_happened(
    database: Database,
) -> None:
    async with served(database) as server:
        for seconds in range(0, 30 * 60, 5):
            server.clock.now = START + seconds
            await server.recorder.flush()
        await server.use(30 * 60 - 3, A)
        server.clock.now = START + 30 * 60
        found = await server.get("", {"from": at(0), "to": at(30 * 60), "buckets": 30})
        assert [each["misses"] for each in found["buckets"]] == [0] * 29 + [1]


async def test_who_waited_and_how_long(database: Database) -> None:
    async with served(database) as server:
        server.clock.now = START + 10
        async with (
            server.cache.controller.lease(A),
            server.cache.controller.lease(B),
        ):
            waiting = asyncio.create_task(server.cache.use(C))
            await settle()
            server.clock.now = START + 25
            await server.recorder.flush()
        await waiting
        await settle()
        server.clock.now = START + 30
        past = (await server.get("/state", {"at": at(20)}))["cache"]
        assert [(each["reference"], round(each["seconds"])) for each in past["waits"]] == [
            ("a3:1", 15)
        ]
        assert (await server.get("/state", {"at": at(27)}))["cache"]["waits"] == []
        sampled = (await server.get("/state", {"at": at(25.5)}))["cache"]
        assert sampled["sampled_at"].startswith(at(25)[:19])


async def test_decisions_are_paged_in_their_order(database: Database) -> None:
    async with served(database) as server:
        for minute in range(30):
            await server.use(minute * 60, A, B, C)
            await server.recorder.flush()
        server.clock.now += 60
        everything = await server.get("/decisions", {"from": at(0), "limit": 1000})
        ids, after = [], None
        while True:
            query = {"from": at(0), "limit": 50} | ({} if after is None else {"after": after})
            page = await server.get("/decisions", query)
            ids += [each["id"] for each in page["items"]]
            after = page["next"]
            if after is None:
                break
        assert ids == sorted(each["id"] for each in everything["items"])
        assert len(ids) > 200
        assert everything["next"] is None


async def test_more_decisions_than_are_recorded_singly_are_said_to_be_more(
    database: Database,
) -> None:
    async with served(database) as server:
        await server.use(10, *[A, B, C, A, B, C] * 10)
        server.clock.now = START + 20
        found = await server.get("/decisions", {"from": at(0)})
        assert len(found["items"]) == 20
        [more] = found["more"]
        assert more["count"] > 50
        assert more["at"].startswith(at(10)[:19])
        now = {each.version.reference for each in server.cache.controller.snapshot().gpu}
        assert set(residents(await server.get("/state", {"at": at(15)}))) == now


async def test_a_tenant_sees_its_own_adapters_and_no_name_of_another(database: Database) -> None:
    async with served(database, tenant=True) as server:
        await server.use(10, THEIRS, OURS)
        await server.cache.controller.pin(OURS, Tier.GPU)
        await server.use(70, adapter(10, "other~more"))
        server.clock.now = START + 100
        past = await server.get("/state", {"at": at(20)})
        assert residents(past) == {"acme~theirs:1": 0}
        assert past["cache"]["hidden"] == {"gpu": 1, "host": 1, "loading": 0}
        decisions = await server.get("/decisions", {"from": at(0)})
        counts = await server.get("", {"from": at(0)})
        assert "other" not in str([past, decisions, counts])
        assert [each["for_reference"] for each in decisions["items"]].count(None) == len(
            decisions["items"]
        )
        assert sum(each["misses"] for each in counts["buckets"]) == 1
        assert (await server.get("", {"adapter": "other~ours"}, 404))["code"] == "unknown_adapter"


async def test_the_counts_of_a_tenant_are_read_a_few_minutes_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, within = [], CacheHistoryStore.within

    async def counting(store: CacheHistoryStore, *given: Any, **options: Any) -> Any:
        rows = await within(store, *given, **options)
        read.append(sum(bool(row.content) for row in rows))
        return rows

    monkeypatch.setattr(CacheHistoryStore, "within", counting)
    async with served(database, tenant=True) as server:
        for minute in range(50):
            await server.use(minute * 60, THEIRS, OURS)
            await server.recorder.flush()
        server.clock.now += 60
        found = await server.get("", {"from": at(0)})
        assert sum(each["hits"] + each["misses"] for each in found["buckets"]) == 50
        assert 1 < max(read) <= 21


async def test_history_is_unpacked_for_one_caller_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0

    def slow(row: HistoryRow) -> dict[str, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.02)
        now -= 1
        return unpack(row)

    async with served(database) as server:
        await server.use(10, A, B)
        server.clock.now += 60
        monkeypatch.setattr("engine.history.replay.unpack", slow)
        states = [server.get("/state", {"at": at(20)}) for _ in range(4)]
        decisions = [server.get("/decisions", {"from": at(0)}) for _ in range(4)]
        await asyncio.gather(*states, *decisions)
    assert most == 1


@pytest.mark.both_databases
async def test_each_server_has_its_own_history(database: Database) -> None:
    clock = Clock()
    async with (
        served(database, clock=clock) as here,
        served(database, name="there", clock=clock) as there,
    ):
        await here.use(10, A)
        await there.use(12, B)
        clock.now = START + 20
        await there.recorder.flush()
        assert (await here.get("", {"from": at(0)}))["servers"] == ["here", "there"]
        asked = await here.get("/state", {"at": at(13), "server": "there"})
        assert asked["server"] == "there"
        assert residents(asked) == {"a2:1": 0}
        assert (await here.get("", {"server": "nowhere"}, 404))["code"] == "unknown_server"


@pytest.mark.both_databases
@pytest.mark.parametrize("content", ["later", "damaged"])
async def test_a_row_that_cant_be_read_is_passed_over_as_unknown(
    database: Database, content: str
) -> None:
    """As a later Adaptry writes it, which ran on this database before."""
    async with served(database) as server:
        await server.use(10, A)
        await server.use(70, B)
        await server.recorder.flush()
        store = CacheHistoryStore(database, "here", keep_seconds=86400, max_bytes=10**6)
        whole = (int(START * 10**6), int((START + 200) * 10**6))
        first, *_ = await store.within("here", *whole)
        later = zlib.compress(json.dumps({"format": 2, "names": "of another form"}).encode())
        unread = later if content == "later" else b"damaged"
        await store.save(replace(first, content=unread))
        server.clock.now = START + 200
        past = await server.get("/state", {"at": at(20)})
        assert past["cache"] is None
        assert datetime.fromisoformat(past["unknown"]["since"]).timestamp() == START
        assert residents(await server.get("/state", {"at": at(75)})) == {"a1:1": 0, "a2:1": 1}
        decided = await server.get("/decisions", {"from": at(0)})
        assert {each["reference"] for each in decided["items"]} == {"a2:1"}
        of_one = await server.get("", {"from": at(0), "adapter": "a1"})
        assert of_one["unknown"]
        assert of_one["buckets"][0]["recorded_seconds"] == 0
        assert (await server.get("", {"from": at(0)}))["buckets"][0]["misses"] == 1


async def test_a_server_that_records_nothing_says_so_and_shows_the_others(
    database: Database,
) -> None:
    clock = Clock()
    async with (
        served(database, name="there", clock=clock) as there,
        served(database, clock=clock, hours=0) as here,
    ):
        for path in ("", "/state", "/decisions"):
            query = {"at": at(0)} if path == "/state" else {}
            problem = await here.get(path, query, 409)
            assert problem["code"] == "history_off"
            assert "ADAPTRY_HISTORY_HOURS" in problem["detail"]
        await there.use(10, A)
        clock.now = START + 20
        await there.recorder.flush()
        assert residents(await here.get("/state", {"at": at(11), "server": "there"})) == {"a1:1": 0}
        for path, name in (("/state", "at"), ("", "to"), ("/decisions", "to")):
            query = {name: "0001-01-01T00:00:00Z", "server": "there"}
            assert (await here.get(path, query, 422))["code"] == "time_out_of_range"


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/state", {"at": at(3600)}, "time_out_of_range"),
        ("/state", {"at": at(-2 * 86400)}, "time_out_of_range"),
        ("/state", {"at": "0001-01-01T00:00:00+14:00"}, "time_out_of_range"),
        ("/state", {"at": "9999-12-31T23:59:59-12:00"}, "time_out_of_range"),
        *(
            (path, {name: end}, "time_out_of_range")
            for path, name in (("/state", "at"), ("", "from"), ("/decisions", "to"))
            for end in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
        ),
        ("", {"from": at(0), "to": at(-1)}, "time_out_of_range"),
        ("", {"to": at(3600)}, "time_out_of_range"),
        ("/decisions", {"from": at(-2 * 86400)}, "time_out_of_range"),
    ],
)
async def test_a_time_without_history_is_refused(
    database: Database, path: str, query: dict[str, str], code: str
) -> None:
    async with served(database) as server:
        assert (await server.get(path, query, 422))["code"] == code
        assert await server.get("/state", {"at": "yesterday"}, 422)


async def test_a_time_has_its_zone(database: Database) -> None:
    async with served(database) as server:
        await server.use(10, A)
        server.clock.now = START + 60
        there = datetime.fromtimestamp(START + 30, timezone(timedelta(hours=-9)))
        assert residents(await server.get("/state", {"at": there.isoformat()})) == {"a1:1": 0}
        naive = there.replace(tzinfo=None).isoformat()
        await server.get("/state", {"at": naive}, 422)
