"""Promotions over REST: real tables and a real cache controller, over a backend without engine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.operations.promotion import EnginePromotion
from engine.resolver import for_engine
from engine.types import AdapterVersion, LoadFailure, Tier
from registry.aliases.history import AliasCatalog
from registry.aliases.promotion import Preparation, PromotionService
from registry.catalog.types import AliasState
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.references import AdapterReference
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, kinds, publish_some, resolved, step
from tests.support.cache.controller_harness import Cache, running, until

PROD = "/adapters/bot/aliases/prod"
OWN = (LoadFailure.STORE, LoadFailure.TIMEOUT, LoadFailure.ADAPTER)  # an engine's own troubles


@dataclass
class Outcome:
    failure: str | None = None


@dataclass
class Probed:
    """A probe with a scripted verdict."""

    failure: str | None = None
    asked: list[str] = field(default_factory=list)

    async def run(self, version: AdapterVersion) -> Outcome:
        self.asked.append(version.reference)
        return Outcome(self.failure)


class Engine:
    """The cache of an engine, and what the tests do to both."""

    def __init__(self, service: RegistryService, cache: Cache, probe: Probed) -> None:
        self._service = service
        self.cache = cache
        self.controller = cache.controller
        self.probe = probe
        self.down: EngineUnavailable | None = None
        service.set_serving_engine(EnginePromotion(self.controller, lambda: self.down, probe))

    async def version(self, number: int) -> AdapterVersion:
        return for_engine(await self._service.catalog.find(AdapterReference("bot", None, number)))

    async def break_version(self, number: int) -> None:
        self.cache.backend.broken.add((await self.version(number)).id)

    def residents(self, tier: Tier) -> list[int]:
        snapshot = self.controller.snapshot()
        found = snapshot.gpu if tier is Tier.GPU else snapshot.host
        return sorted(resident.version.number for resident in found)


@pytest.fixture
async def engine(
    service: RegistryService, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> AsyncIterator[Engine]:
    """With `bot` in three versions, and `prod` at the first."""
    await publish_some(client, make_adapter, "bot", 3)
    assert (await client.put(PROD, json={"version": 1})).status_code == 200
    async with running(Cache()) as cache:
        yield Engine(service, cache, Probed())


async def promote(client: httpx.AsyncClient, version: int, **body: Any) -> httpx.Response:
    return await client.put(PROD, json={"version": version, **body})


async def test_the_alias_moves_when_the_new_version_is_in_memory(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    engine.cache.backend.may_load.clear()
    moving = asyncio.create_task(promote(client, 2))
    await until(lambda: engine.cache.backend.loads)
    assert await resolved(client, "bot@prod") == 1, "it is still loading"
    engine.cache.backend.may_load.set()
    assert (await moving).status_code == 200
    assert await resolved(client, "bot@prod") == 2
    assert engine.residents(Tier.HOST) == [2]
    assert engine.residents(Tier.GPU) == [], "a request had a slot"


async def test_a_rollback_and_a_split_are_warmed_too(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    weights = [{"version": n, "weight": n} for n in (2, 3)]
    assert (await client.put(PROD, json={"weights": weights})).status_code == 200
    assert engine.residents(Tier.HOST) == [2, 3]
    assert (await client.post(f"{PROD}/rollback")).json()["version"] == 1
    assert engine.residents(Tier.HOST) == [1, 2, 3]


async def test_who_is_told_not_to_loads_nothing(client: httpx.AsyncClient, engine: Engine) -> None:
    assert (await promote(client, 2, warm=False)).status_code == 200
    assert (await client.post(f"{PROD}/rollback", json={"warm": False})).status_code == 200
    assert (await promote(client, 1)).status_code == 200, "there it is already"
    assert engine.cache.backend.loads == []


async def test_the_new_version_gets_a_slot_if_the_old_one_has_one(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    async with engine.controller.lease(await engine.version(1)):
        assert (await promote(client, 2)).status_code == 200
        assert engine.residents(Tier.GPU) == [1, 2]


async def test_a_promotion_takes_no_slot_from_another_adapter(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    lease = engine.controller.lease
    async with lease(await engine.version(1)), lease(await engine.version(3)):
        assert (await promote(client, 2)).status_code == 200
        assert engine.residents(Tier.GPU) == [1, 3]
        assert engine.residents(Tier.HOST) == [1, 2, 3]


@pytest.mark.parametrize(
    ("failure", "status"), [(LoadFailure.FILES, 422), *((own, 503) for own in OWN)]
)
async def test_what_can_not_be_loaded_moves_nothing(
    client: httpx.AsyncClient, engine: Engine, failure: LoadFailure, status: int
) -> None:
    before = await kinds(client, "bot")
    engine.cache.backend.load_breaks = AdapterLoadFailed("bot:2", "broken on purpose", failure)
    refused = await promote(client, 2)
    assert_problem(refused, status, "warming_failed")
    assert ("retry-after" in refused.headers) == (status == 503)
    assert await resolved(client, "bot@prod") == 1
    assert await kinds(client, "bot") == before


async def test_one_broken_part_of_a_split_moves_nothing(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await engine.break_version(3)
    weights = [{"version": n, "weight": 1} for n in (1, 2, 3)]
    assert_problem(await client.put(PROD, json={"weights": weights}), 503, "warming_failed")
    assert (await client.get(PROD)).json()["weights"] == [{"version": 1, "weight": 1}]


async def test_an_engine_that_is_away_is_a_503_unless_nothing_is_to_be_warmed(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    engine.down = EngineUnavailable("it ended")
    assert_problem(await promote(client, 2), 503, "engine_unavailable")
    assert_problem(await promote(client, 2, probe=True), 503, "engine_unavailable")
    assert await resolved(client, "bot@prod") == 1
    assert (await promote(client, 2, warm=False)).status_code == 200


async def test_an_engine_that_goes_meanwhile_is_a_503(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    engine.cache.backend.load_seconds = 60
    moving = asyncio.create_task(promote(client, 2))
    await until(lambda: engine.cache.backend.loads)
    await engine.controller.on_engine_lost(EngineUnavailable("it ended"))
    assert_problem(await moving, 503, "engine_unavailable")
    assert await resolved(client, "bot@prod") == 1


async def test_a_registry_without_an_engine_warms_only_on_demand(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    assert (await promote(client, 1)).status_code == 200
    for wish in ("warm", "probe", "evict_old"):
        assert_problem(await promote(client, 2, **{wish: True}), 503, "engine_unavailable")
    assert await resolved(client, "bot@prod") == 1


async def test_what_takes_too_long_is_a_504(client: httpx.AsyncClient, engine: Engine) -> None:
    engine.cache.backend.load_seconds = 60
    assert_problem(await promote(client, 2, timeout_seconds=0.05), 504, "promotion_timeout")
    assert await resolved(client, "bot@prod") == 1


async def test_a_probe_is_asked_about_versions_that_are_new_to_the_alias(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    weights = [{"version": n, "weight": 1} for n in (1, 2)]
    body = {"weights": weights, "probe": True}
    assert (await client.put(PROD, json=body)).status_code == 200
    assert engine.probe.asked == ["bot:2"]


async def test_a_probe_that_fails_moves_nothing(client: httpx.AsyncClient, engine: Engine) -> None:
    engine.probe.failure = "probe_no_difference"
    assert_problem(await promote(client, 2, probe=True), 422, "probe_no_difference")
    assert await resolved(client, "bot@prod") == 1
    assert (await promote(client, 2)).status_code == 200, "not probed"


async def test_a_stale_view_is_refused_before_anything_is_loaded(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    assert_problem(await promote(client, 2, expected_version=3), 409, "alias_moved")
    assert_problem(await promote(client, 2, expected_revision=9), 409, "alias_moved")
    await step(client, "bot:2", "retire")
    assert_problem(await promote(client, 2), 409, "version_not_servable")
    assert_problem(await promote(client, 9), 404, "unknown_version")
    assert engine.cache.backend.loads == []


async def test_what_changes_while_it_warms_is_seen_at_the_switch(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    engine.cache.backend.may_load.clear()
    moving = [
        asyncio.create_task(promote(client, 2, expected_version=1)),
        asyncio.create_task(promote(client, 3)),
        asyncio.create_task(promote(client, 2, expected_revision=1)),
    ]
    await until(lambda: len(engine.cache.backend.loads) == 2)
    assert (await promote(client, 3, warm=False)).status_code == 200
    await step(client, "bot:3", "retire", force=True)
    engine.cache.backend.may_load.set()
    assert_problem(await moving[0], 409, "alias_moved")
    assert_problem(await moving[1], 409, "version_not_servable")
    assert_problem(await moving[2], 409, "alias_moved")


async def test_the_old_version_leaves_memory_when_its_last_request_has_ended(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    async with engine.controller.lease(await engine.version(1)):
        moved = await promote(client, 2, evict_old=True)
        assert moved.status_code == 200, "the move waited for the request to end"
    await asyncio.sleep(0.01)
    assert engine.residents(Tier.HOST) == [1, 2], "`default` still points at the first"
    async with engine.controller.lease(await engine.version(2)):
        assert (await promote(client, 3, evict_old=True)).status_code == 200
        await asyncio.sleep(0.01)
        assert engine.residents(Tier.HOST) == [1, 2, 3]
    await until(lambda: engine.residents(Tier.HOST) == [1, 3])


async def test_a_rollback_takes_in_a_version_that_is_about_to_leave(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await promote(client, 2)
    async with engine.controller.lease(await engine.version(2)):
        assert (await promote(client, 3, evict_old=True)).status_code == 200
        assert (await client.post(f"{PROD}/rollback")).json()["version"] == 2
        async with asyncio.timeout(30), engine.controller.lease(await engine.version(2)) as lease:
            assert lease.outcome == "gpu_hit", "it waited until the long request had ended"
    await asyncio.sleep(0.5)  # longer than until the next look
    assert engine.residents(Tier.HOST) == [2, 3]


async def test_who_asks_for_an_old_version_that_leaves_does_not_wait(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await promote(client, 2)
    async with engine.controller.lease(await engine.version(2)):
        assert (await promote(client, 3, evict_old=True)).status_code == 200
        async with asyncio.timeout(30), engine.controller.lease(await engine.version(2)):
            pass
    await until(lambda: engine.residents(Tier.HOST) == [3])


async def test_a_pinned_old_version_stays(client: httpx.AsyncClient, engine: Engine) -> None:
    await promote(client, 2)
    await engine.controller.pin(await engine.version(2), Tier.HOST)
    assert (await promote(client, 3, evict_old=True)).status_code == 200
    await asyncio.sleep(0.01)
    assert engine.residents(Tier.HOST) == [2, 3]


class Outage(AliasCatalog):
    """The database goes once an alias has moved."""

    async def all(self, name: str) -> list[AliasState]:
        raise DatabaseUnavailable("the database can't be used now: gone")


async def test_a_switch_stands_though_the_old_versions_can_not_be_looked_up(
    client: httpx.AsyncClient, service: RegistryService, database: Database, engine: Engine
) -> None:
    """They stay in memory, until their place is needed."""
    promotion = PromotionService(service.catalog, Outage(database), service.aliases)
    promotion.engine = service.promotion.engine
    evicting = Preparation(evict_old=True)
    moved = await promotion.promote("bot", "prod", {2: 1}, evicting, actor="test")
    assert moved.weights == {2: 1}
    assert await resolved(client, "bot@prod") == 2


@pytest.mark.parametrize(
    "body",
    [
        '{"version": 2, "timeout_seconds": 0}',
        '{"version": 2, "timeout_seconds": 1e999}',
        '{"version": 2, "timeout_seconds": NaN}',
        '{"version": 2, "warm": "perhaps"}',
        '{"version": 2, "warm": false, "probe": true}',
        '{"version": 2, "drain": true}',
    ],
)
async def test_malformed_wishes(client: httpx.AsyncClient, engine: Engine, body: str) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(await client.put(PROD, content=body, headers=headers), 422, "invalid_request")
