"""Why, the last decisions and their stream, over real HTTP; the controller on the fake backend."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.api.adapter_facts import AdapterFacts
from engine.api.cache_schemas import cache_read
from engine.api.decisions import create_decision_router
from engine.api.policy import create_policy_router
from engine.api.visibility import keep_caller
from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineAsleep, EngineUnavailable
from engine.operations.control import EngineCacheControl
from engine.operations.pins import PinService
from engine.ports import Observers
from engine.telemetry.decision_log import DecisionLog
from engine.telemetry.shadows import Shadows
from engine.types import EvictionPolicy, Tier
from registry.auth.caller import ANONYMOUS, Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE, Scope
from registry.errors import EngineAway, ScopeMissing
from registry.http.authentication import AuthenticationMiddleware
from registry.http.sse import StreamLimiter, StreamLimits
from registry.residency import NullResidencyStore
from tests.support.cache.controller_harness import A, B, C, Cache, D, running, until
from tests.support.cache.resolvers import KnownAdapters
from tests.support.servers.asgi_server import serving, take_in

KNOWN = (A, B, C, D)
BEARER = {"authorization": "Bearer any"}


class Grants:
    """A tenant's key, and what it is granted at any time."""

    def __init__(self, *granted: str) -> None:
        self.are(*granted)

    def are(self, *granted: str) -> None:
        self._caller = Caller("other~boss", EVERY_SCOPE, frozenset(granted))

    async def authenticate(self, _: str) -> Caller:
        return self._caller

    async def current(self, _: Caller) -> Caller:
        return self._caller


@dataclass
class Served:
    cache: Cache
    log: DecisionLog
    limiter: StreamLimiter
    http: httpx.AsyncClient

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.http.get(f"/api/v1/cache/{path}", params=query)).json()

    async def kinds(self, **query: Any) -> list[str]:
        return [item["kind"] for item in (await self.get("decisions", **query))["items"]]


@asynccontextmanager
async def served(
    *, slots: int = 2, host: int = 3, grants: Grants | None = None, **limits: Any
) -> AsyncIterator[Served]:
    """`grants`: every caller is that tenant; without it, every caller is the platform."""
    log, closed = DecisionLog(), asyncio.Event()
    shadows = Shadows(slots=slots, host_capacity=host, policy=EvictionPolicy.LRU)
    cache = Cache(slots=slots, host=host, besides=Observers(log, shadows))
    limiter = StreamLimiter(StreamLimits(**limits), closed)
    app = FastAPI()
    steered = EngineCacheControl(
        cache.controller,
        PinService(cache.controller, NullResidencyStore(), KnownAdapters(KNOWN)),
        log,
    )
    current = keep_caller if grants is None else grants.current
    last_miss = shadows.describe_last_miss
    take_in(
        app, create_decision_router(steered, log, KnownAdapters(KNOWN), limiter, current, last_miss)
    )
    take_in(app, create_policy_router(shadows))
    if grants is not None:
        app.add_middleware(AuthenticationMiddleware, authenticate=grants.authenticate)
    async with running(cache), serving(app, 0) as url:
        async with httpx.AsyncClient(base_url=url, timeout=20, headers=BEARER) as http:
            yield Served(cache, log, limiter, http)
        closed.set()


async def test_facts_for_the_registrys_table() -> None:
    """Where an adapter is, when it was last asked for, and its share of hits: of those seen."""
    async with served(slots=1, host=2) as server:
        for version in (A, B, A, C):
            await server.cache.use(version)
        control = EngineCacheControl(
            server.cache.controller,
            PinService(server.cache.controller, NullResidencyStore(), KnownAdapters(KNOWN)),
            server.log,
        )
        facts_of = AdapterFacts(control.snapshots, server.log)
        found = await facts_of()
        assert {name: each.tier for name, each in found.items()} == {"a1": 1, "a2": None, "a3": 0}
        assert {name: each.hits for name, each in found.items()} == {"a1": 0.5, "a2": 0, "a3": 0}
        asked = {name: each.asked or 0.0 for name, each in found.items()}
        assert sorted(asked, key=lambda name: asked[name]) == ["a3", "a1", "a2"]
        with as_caller(Caller("other~boss", EVERY_SCOPE, frozenset({"a2"}))):
            assert set(await facts_of()) == {"a2"}
        reader = Caller("reader", frozenset({Scope.INFER}))
        with as_caller(reader), pytest.raises(ScopeMissing):
            await facts_of()


async def test_a_replica_that_is_away_is_an_error_that_the_registrys_routes_know() -> None:
    async def away() -> dict[str, CacheSnapshot]:
        raise EngineUnavailable("it is being replaced")

    with pytest.raises(EngineAway, match="being replaced") as refused:
        await AdapterFacts(away, DecisionLog())()
    assert (refused.value.status, refused.value.code) == (503, "engine_unavailable")


async def test_why_reports_where_it_is_and_what_happened_last() -> None:
    async with served() as server:
        await server.cache.use(A)
        await until(lambda: server.cache.controller.snapshot().gpu[0].slot == 0)
        why = await server.get("why/a1")
        assert (why["reference"], why["adapter"], why["version_id"]) == ("a1:1", "a1", A.id)
        now = why["now"]
        assert now.pop("idle_seconds") >= 0
        assert now == {
            "tier": "gpu",
            "slot": 0,
            "pinned": None,
            "leases": 0,
            "waiting": 0,
            "loading": False,
            "leaving": False,
            "hits": 0,
            "next_victim": True,
            "replica": None,
        }
        assert [decision["kind"] for decision in why["decisions"]][-1] == "load_started"
        assert why["summary"].startswith("a1:1 is in GPU slot 0, idle ")
        assert why["summary"].endswith(", the next to be evicted.")


async def test_why_of_a_thrashing_adapter_says_so_and_what_would_help() -> None:
    async with served(slots=1, host=2) as server:
        for version in (A, B, C) * 3:
            await server.cache.use(version)
        why = await server.get("why/a1")
        assert why["now"]["tier"] == "disk"
        assert "a1:1 is on disk only" in why["summary"]
        assert "It was evicted from the host tier 3 times in " in why["summary"]
        assert "Pin it, or raise --max-cpu-loras." in why["summary"]
        evictions = [d for d in why["decisions"] if d["kind"] == "evicted" and d["tier"] == "host"]
        assert [d["for_reference"] for d in evictions] == ["a3:1"] * 3
        fit = await server.get("why/a4")
        assert fit["summary"] == "a4:1 is on disk only: its next request has to load it."
        assert fit["decisions"] == []


async def test_why_and_the_policy_say_what_would_have_been_a_hit() -> None:
    async with served(slots=2, host=3) as server:
        assert (await server.get("policy"))["tiers"] == []
        for version in (A, B, C) * 4:
            await server.cache.use(version)
        why = await server.get("why/a1")
        assert "With 3 slots its last miss would have been a hit." in why["summary"]
        policy = await server.get("policy")
    assert (policy["policy"], policy["candidate"]) == ("lru", None)
    slots, host = policy["tiers"]
    assert slots == {
        **{"tier": "gpu", "places": 2, "live": 0.0, "lru": 0.0},
        **{"optimum": 0.4167, "candidate": None, "places_for_half": 3, "lookups": 12},
        "curve": [{"places": n, "lru": ratio} for n, ratio in ((1, 0.0), (2, 0.0), (3, 0.75))],
    }
    assert (host["live"], host["lru"], host["optimum"]) == (0.75, 0.75, 0.75)
    assert policy["mend"] == (
        "With --max-loras 3, 75% more of the requests would find their adapter in a slot."
    )


async def test_too_few_slots_are_distinguished_from_too_little_host_memory() -> None:
    async with served(slots=1, host=2) as server:
        for version in (A, B) * 4:
            await server.cache.use(version)
        summary = (await server.get("why/a1"))["summary"]
        assert "It was evicted from the gpu tier 4 times in " in summary
        assert "Pin it, or raise --max-loras." in summary


async def test_who_is_next_to_leave_minds_pins_and_leases() -> None:
    async with served(slots=2, host=3) as server:
        for version in (A, B):
            await server.cache.use(version)
        await server.cache.controller.pin(A, Tier.GPU)
        assert [
            (await server.get(f"why/{name}"))["now"]["next_victim"] for name in ("a1", "a2")
        ] == [
            False,
            True,
        ]
        async with server.cache.controller.lease(B):
            assert not (await server.get("why/a2"))["now"]["next_victim"]
        await server.cache.controller.load_into_host(C)
        assert (await server.get("why/a3"))["now"]["next_victim"], "the only one in no slot"


async def test_a_failed_request_is_reported_with_its_reason() -> None:
    async with served() as server:
        server.cache.backend.broken.add(A.id)
        with pytest.raises(Exception, match="broken on purpose"):
            await server.cache.use(A)
        why = await server.get("why/a1")
        assert "adapter a1:1 could not be loaded: broken on purpose." in why["summary"]
        assert {d["code"] for d in why["decisions"] if d["kind"] == "load_failed"} == {
            "adapter_load_failed"
        }


async def test_unknown_names_and_bad_input_are_problems() -> None:
    async with served() as server:
        for path, status, code in [
            ("why/nobody", 404, "unknown_adapter"),
            ("decisions?limit=0", 422, "invalid_request"),
            ("decisions?adapter=No%20Name", 400, "invalid_reference"),
            ("stream?adapter=No%20Name", 400, "invalid_reference"),
            ("decisions?after=-1", 422, "invalid_request"),
        ]:
            answer = await server.http.get(f"/api/v1/cache/{path}")
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
        headers = {"last-event-id": "yesterday"}
        answer = await server.http.get("/api/v1/cache/stream", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_event_id")


async def test_decisions_come_in_order_by_adapter_and_after_an_id() -> None:
    async with served() as server:
        before = (await server.get("decisions"))["newest_id"]
        await server.cache.use(A)
        await server.cache.use(B)
        await server.cache.use(A)
        await until(lambda: len(server.log.latest(99)) == 9)
        answer = await server.get("decisions")
        ids = [item["id"] for item in answer["items"]]
        assert ids == sorted(ids) == list(range(before + 1, before + 10))
        assert (answer["oldest_id"], answer["newest_id"]) == (ids[0], ids[-1])
        assert await server.kinds(adapter="a1") == [
            "load_started",
            *(kind for kind in await server.kinds(adapter="a2") if kind != "load_started"),
            "looked_up",
        ]
        assert await server.kinds(after=ids[-2]) == await server.kinds(limit=1)
        assert await server.kinds(after=ids[-1]) == []


async def read(
    server: Served, count: int, headers: dict[str, str] | None = None, **query: Any
) -> list[dict[str, Any]]:
    """So many messages of a stream."""
    url, found = "/api/v1/cache/stream", list[dict[str, Any]]()
    async with server.http.stream("GET", url, params=query, headers=headers or {}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        id_ = ""
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                id_ = line.removeprefix("id: ")
            elif line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                assert str(found[-1]["id"]) == id_
            if len(found) == count:
                return found
    raise AssertionError("the stream ended early")


async def test_the_stream_sends_each_decision_once_and_resumes() -> None:
    async with served() as server:
        reading = asyncio.create_task(read(server, 4))
        await until(lambda: server.limiter.open == 1)
        await server.cache.use(A)
        first = await reading
        assert {item["kind"] for item in first} == {"load_started", "looked_up", "moved_in"}
        await server.cache.use(A)
        await server.cache.use(B)
        last = str(first[-1]["id"])
        missed = await read(server, 5, {"last-event-id": last})
        ids = [item["id"] for item in first + missed]
        assert ids == list(range(ids[0], ids[0] + 9))
        only = await read(server, 4, after=first[-1]["id"], adapter="a2")
        assert {item["adapter"] for item in only} == {"a2"}
        await until(lambda: server.limiter.open == 0)


async def test_a_reader_who_fell_far_behind_goes_on_with_what_is_kept() -> None:
    async with served() as server:
        await server.cache.use(A)
        await until(lambda: len(server.log.latest(9)) == 4)
        assert len(await read(server, 4, after=0)) == 4


async def test_a_quiet_stream_says_that_it_lives_and_too_many_are_refused() -> None:
    async with (
        served(max_streams=1, heartbeat_seconds=0.05) as server,
        server.http.stream("GET", "/api/v1/cache/stream") as response,
    ):
        lines = response.aiter_lines()
        alive = 0
        while alive < 3:
            alive += (await anext(lines)) == ": alive"
        refused = await server.http.get("/api/v1/cache/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")


async def test_a_stream_follows_the_callers_current_grants() -> None:
    grants, found = Grants("a1"), list[str]()

    async def follow(http: httpx.AsyncClient) -> None:
        async with http.stream("GET", "/api/v1/cache/stream") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: "))["adapter"])
                if len(found) == 8:
                    return

    async with served(grants=grants) as server:
        following = asyncio.create_task(follow(server.http))
        await until(lambda: server.limiter.open == 1)
        await server.cache.use(B)
        await server.cache.use(A)
        await until(lambda: len(found) == 4)
        grants.are("a3")
        await server.cache.use(A)
        await server.cache.use(C)
        await following
        assert found == ["a1"] * 4 + ["a3"] * 4


async def test_a_stream_of_one_adapter_ends_with_its_grant() -> None:
    grants = Grants("a1")
    async with served(grants=grants) as server:
        reading = asyncio.create_task(read(server, 99, adapter="a1"))
        await until(lambda: server.limiter.open == 1)
        grants.are()
        await server.cache.use(A)
        with pytest.raises(AssertionError, match="the stream ended early"):
            await reading
        for adapter in ("a1", "a9"):
            answer = await server.http.get("/api/v1/cache/stream", params={"adapter": adapter})
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_adapter")


async def test_a_tenant_can_not_learn_how_many_other_decisions_there_are() -> None:
    async with served(grants=Grants("a1"), heartbeat_seconds=0.05) as server:
        await server.cache.use(B)
        ids, signs_of_life = [], 0
        async with server.http.stream("GET", "/api/v1/cache/stream") as response:
            async for line in response.aiter_lines():
                ids += [line] if line.startswith("id: ") else []
                signs_of_life += line == ": alive"
                await server.cache.use(B)
                if signs_of_life == 4:
                    break
        assert len(ids) == 1


async def test_an_engine_that_is_down_is_said_beside_its_slots() -> None:
    cache = Cache(slots=2, host=3)
    async with running(cache):
        for is_up in (True, False, True):
            read = cache_read({"": cache.controller.snapshot()}, ANONYMOUS)
            assert (read.engine_up, read.replicas) == (is_up, [])
            if is_up:
                await cache.controller.on_engine_lost(EngineAsleep())
            else:
                cache.controller.on_engine_ready()


async def test_nothing_is_prefetched_for_an_engine_that_sleeps() -> None:
    cache = Cache(slots=2, host=3)
    control = EngineCacheControl(
        cache.controller,
        PinService(cache.controller, NullResidencyStore(), KnownAdapters(KNOWN)),
        DecisionLog(),
    )
    async with running(cache):
        await cache.controller.on_engine_lost(EngineAsleep())
        with pytest.raises(EngineAsleep):
            await control.prefetch(A, None)
        cache.controller.on_engine_ready()
        await control.prefetch(A, None)
