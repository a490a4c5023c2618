"""Pins and the last residency in real tables, and how a new process finds them again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import AdapterLoadFailed, EngineUnavailable, NotPinned, PinBudgetExceeded
from engine.operations import pins as pin_keeper
from engine.operations.pins import PinService
from engine.operations.warmup import WarmUp
from engine.types import AdapterVersion, Tier, VersionId
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, UnknownAdapter
from registry.models import Adapter, Version, VersionState, now, row_id
from registry.residency import ResidencyStore, StoredPin
from tests.support.cache.controller_harness import Cache, running, until

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


async def publish(database: Database, name: str) -> AdapterVersion:
    async with database.transaction() as session:
        adapter = Adapter(name=name)
        session.add(adapter)
        await session.flush()
        version = Version(
            adapter_id=row_id(adapter),
            number=1,
            digest=f"{row_id(adapter):064x}",
            rank=8,
            alpha=8.0,
            target_modules=["q_proj"],
            dtype="float32",
            size_bytes=100,
            source="/nowhere",
            peft_config={},
            created_by="test",
        )
        session.add(version)
        await session.flush()
    id_ = VersionId(row_id(version))
    return AdapterVersion(id_, name, 1, version.digest, f"/store/{name}", 8, 100)


async def set_state(database: Database, version: AdapterVersion, state: VersionState) -> None:
    async with database.transaction() as session:
        row = await session.get(Version, version.id)
        assert row is not None
        row.state = state


class Names:
    """Resolves `name:1`."""

    def __init__(self, versions: Sequence[AdapterVersion]) -> None:
        self._versions = {version.reference: version for version in versions}

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        if text not in self._versions:
            raise UnknownAdapter(text)
        return self._versions[text]

    async def find(self, text: str) -> AdapterVersion:
        return await self.resolve(text)


@dataclass
class Process:
    """What lives as long as one process of the server."""

    cache: Cache
    pins: PinService
    warm_up: WarmUp


@asynccontextmanager
async def process(
    database: Database, versions: Sequence[AdapterVersion], *, host: int = 4
) -> AsyncIterator[Process]:
    async with running(Cache(slots=2, host=host)) as cache:
        store = ResidencyStore(database, "here")
        names = Names(versions)
        pins = PinService(cache.controller, store, names)
        warm_up = WarmUp(cache.controller, pins, store, names, save_seconds=0.01)
        keeping = asyncio.create_task(pins.expire())
        yield Process(cache, pins, warm_up)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@asynccontextmanager
async def warming(one: Process) -> AsyncIterator[None]:
    task = asyncio.create_task(one.warm_up.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def saved(database: Database, count: int) -> None:
    async with asyncio.timeout(30):
        while len(await ResidencyStore(database, "here").residents()) < count:
            await asyncio.sleep(0.01)


@pytest.fixture
async def versions(database: Database) -> list[AdapterVersion]:
    return [await publish(database, name) for name in ("a", "b", "c", "d", "e")]


# ---- pins ---------------------------------------------------------------------------------


async def test_a_pin_is_there_again_after_a_restart(
    database: Database, versions: list[AdapterVersion]
) -> None:
    a, b, *_ = versions
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.GPU, actor="sre")
        await one.pins.pin(b, Tier.HOST, ttl_seconds=3600, actor="sre")
    async with process(database, versions) as two:
        await two.pins.restore()
        assert set(two.cache.backend.gpu) == {a.id}
        assert set(two.cache.backend.host) == {a.id, b.id}
        assert [(kept.version, kept.tier) for kept in two.pins.active] == [
            (a, Tier.GPU),
            (b, Tier.HOST),
        ]
        until_then = two.pins.active[1].expires_at
        assert until_then is not None
        assert timedelta(minutes=59) < until_then - now() < timedelta(hours=1)


async def test_pinned_again_it_has_the_new_tier_and_time(
    database: Database, versions: list[AdapterVersion]
) -> None:
    a = versions[0]
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.GPU, ttl_seconds=3600, actor="sre")
        await one.pins.pin(a, Tier.HOST, actor="sre")
    assert await ResidencyStore(database, "here").pins() == [StoredPin(a.id, "a:1", "host", None)]


async def test_an_unpinned_adapter_stays_unpinned(
    database: Database, versions: list[AdapterVersion]
) -> None:
    a = versions[0]
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.GPU, actor="sre")
        assert await one.pins.unpin(a, actor="sre") is Tier.GPU
        with pytest.raises(NotPinned):
            await one.pins.unpin(a, actor="sre")
        assert not one.cache.controller.is_pinned(a.id)
    assert await ResidencyStore(database, "here").pins() == []


async def test_a_pin_expires(database: Database, versions: list[AdapterVersion]) -> None:
    a = versions[0]
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.HOST, ttl_seconds=0.01, actor="sre")
        await until(lambda: not one.cache.controller.is_pinned(a.id), seconds=5)
        assert one.pins.active == ()
    assert await ResidencyStore(database, "here").pins() == []


async def test_a_pin_that_expired_during_downtime_is_not_restored(
    database: Database, versions: list[AdapterVersion]
) -> None:
    past = now() - timedelta(seconds=1)
    await ResidencyStore(database, "here").save_pin(versions[0].id, "host", past, actor="sre")
    assert await ResidencyStore(database, "here").pins() == []


async def test_a_pin_of_what_may_not_be_served_is_not_restored(
    database: Database, versions: list[AdapterVersion]
) -> None:
    store = ResidencyStore(database, "here")
    await store.save_pin(versions[0].id, "host", None, actor="sre")
    await set_state(database, versions[0], VersionState.QUARANTINED)
    assert await store.pins() == []
    await set_state(database, versions[0], VersionState.READY)
    assert [pin.reference for pin in await store.pins()] == ["a:1"]


async def test_a_pin_that_is_refused_is_not_saved(
    database: Database, versions: list[AdapterVersion]
) -> None:
    a, b, *_ = versions
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.GPU, actor="sre")
        with pytest.raises(PinBudgetExceeded):
            await one.pins.pin(b, Tier.GPU, actor="sre")
        one.cache.backend.broken.add(versions[2].id)
        with pytest.raises(AdapterLoadFailed):
            await one.pins.pin(versions[2], Tier.HOST, actor="sre")
    assert [pin.version_id for pin in await ResidencyStore(database, "here").pins()] == [a.id]


async def test_a_pin_that_can_not_be_saved_is_no_pin(
    database: Database, versions: list[AdapterVersion]
) -> None:
    class Broken(ResidencyStore):
        async def save_pin(
            self,
            version_id: int,
            tier: str,
            expires_at: datetime | None,
            *,
            actor: str,
            replicas: int | None = None,
        ) -> None:
            raise DatabaseUnavailable("gone")

    async with running(Cache()) as cache:
        pins = PinService(cache.controller, Broken(database, "here"), Names(versions))
        with pytest.raises(DatabaseUnavailable):
            await pins.pin(versions[0], Tier.HOST, actor="sre")
        assert not cache.controller.is_pinned(versions[0].id)
        assert pins.active == ()


async def test_of_two_concurrent_unpins_one_reports_that_it_was_not_pinned(
    database: Database, versions: list[AdapterVersion]
) -> None:
    async with process(database, versions) as one:
        await one.pins.pin(versions[0], Tier.HOST, actor="sre")
        ends = await asyncio.gather(
            *(one.pins.unpin(versions[0], actor="sre") for _ in range(2)), return_exceptions=True
        )
    assert [end for end in ends if isinstance(end, Tier)] == [Tier.HOST]
    assert [type(end) for end in ends if not isinstance(end, Tier)] == [NotPinned]


async def test_one_pin_that_can_not_be_restored_does_not_prevent_the_others(
    database: Database, versions: list[AdapterVersion]
) -> None:
    a, b, *_ = versions
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.HOST, actor="sre")
        await one.pins.pin(b, Tier.HOST, actor="sre")
    async with process(database, versions) as two:
        two.cache.backend.broken.add(a.id)
        await two.pins.restore()
        assert [kept.version for kept in two.pins.active] == [b]
    assert len(await ResidencyStore(database, "here").pins()) == 2, "perhaps the next time"


# ---- warming up ---------------------------------------------------------------------------


async def test_who_was_in_memory_is_there_again_after_a_restart(
    database: Database, versions: list[AdapterVersion]
) -> None:
    async with process(database, versions) as one, warming(one):
        for version in versions:
            await one.cache.use(version)
        before = list(one.cache.backend.host)
        await saved(database, 4)
    assert len(before) == 4
    async with process(database, versions) as two, warming(two):
        await until(lambda: len(two.cache.backend.host) == 4)
        assert set(two.cache.backend.host) == set(before)
        assert two.cache.backend.loads[0] == versions[-1].id, "the one used last comes first"
        assert two.cache.backend.gpu == {}


async def test_a_smaller_memory_takes_the_hottest(
    database: Database, versions: list[AdapterVersion]
) -> None:
    async with process(database, versions) as one, warming(one):
        for version in versions:
            await one.cache.use(version)
        await saved(database, 4)
    async with process(database, versions, host=2) as two, warming(two):
        await until(lambda: len(two.cache.backend.host) == 2)
        assert set(two.cache.backend.host) == {versions[3].id, versions[4].id}


async def test_a_request_does_not_wait_for_the_warming(
    database: Database, versions: list[AdapterVersion]
) -> None:
    store = ResidencyStore(database, "here")
    await store.save_residents([version.id for version in versions[:4]])
    async with process(database, versions) as one:
        one.cache.backend.load_seconds = 0.05
        async with warming(one):
            await until(lambda: len(one.cache.backend.loads) == 2)
            await one.cache.use(versions[4])
            assert versions[3].id not in one.cache.backend.host, "it came before the last of them"


@pytest.mark.parametrize("losses", [["died"], ["asleep", "died"]])
async def test_what_an_engine_had_in_memory_its_successor_has_too(
    database: Database, versions: list[AdapterVersion], losses: list[str]
) -> None:
    a, b, c, *_ = versions
    async with process(database, versions) as one:
        await one.pins.pin(a, Tier.GPU, actor="sre")
        for version in (b, c):
            await one.cache.use(version)
        for why in losses:
            one.warm_up.remember()
            await one.cache.controller.on_engine_lost(EngineUnavailable(why))
        one.cache.backend.gpu.clear()
        one.cache.backend.host.clear()
        await one.warm_up.save()
        one.cache.controller.on_engine_ready()
        await one.warm_up.reload()
        await until(lambda: set(one.cache.backend.host) == {a.id, b.id, c.id})
        assert set(one.cache.backend.gpu) == {a.id}
        assert one.cache.controller.is_pinned(a.id)
        one.cache.check()


async def test_who_is_there_already_takes_no_room_from_the_others(
    database: Database, versions: list[AdapterVersion]
) -> None:
    await ResidencyStore(database, "here").save_residents([version.id for version in versions[:4]])
    async with process(database, versions) as one:
        for version in versions[:2]:
            await one.cache.use(version)
        async with warming(one):
            await until(lambda: len(one.cache.backend.host) == 4)


async def test_nothing_is_saved_while_no_engine_lives(
    database: Database, versions: list[AdapterVersion]
) -> None:
    async with process(database, versions) as one:
        await one.cache.use(versions[0])
        await one.warm_up.save()
        await one.cache.controller.on_engine_lost(EngineUnavailable("died"))
        await one.warm_up.save()
    assert await ResidencyStore(database, "here").residents() == ["a:1"]


async def test_a_database_outage_spoils_nothing(
    database: Database, versions: list[AdapterVersion]
) -> None:
    class Gone(ResidencyStore):
        async def pins(self) -> list[StoredPin]:
            raise DatabaseUnavailable("gone")

        async def save_residents(self, version_ids: Sequence[int]) -> None:
            raise DatabaseUnavailable("gone")

    async with running(Cache()) as cache:
        names = Names(versions)
        pins = PinService(cache.controller, Gone(database, "here"), names)
        warm_up = WarmUp(cache.controller, pins, Gone(database, "here"), names, save_seconds=0.001)
        async with warming(Process(cache, pins, warm_up)):
            await cache.use(versions[0])
            await asyncio.sleep(0.02)
            await cache.use(replace(versions[1]))
        cache.check()


async def test_an_unknown_one_is_passed_over(
    database: Database, versions: list[AdapterVersion]
) -> None:
    await ResidencyStore(database, "here").save_residents([version.id for version in versions[:3]])
    async with process(database, versions[1:]) as one, warming(one):
        await until(lambda: len(one.cache.backend.host) == 2)


async def test_saving_who_is_resident_leaves_the_resolvers_answers_alone(
    database: Database, versions: list[AdapterVersion]
) -> None:
    before = database.change_count
    await ResidencyStore(database, "here").save_residents([versions[0].id])
    assert database.change_count == before


async def test_a_wall_clock_that_jumps_ends_no_pin_and_keeps_none(
    database: Database, versions: list[AdapterVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    jump = timedelta(0)
    monkeypatch.setattr(pin_keeper, "_now", lambda: datetime.now(UTC) + jump)
    monkeypatch.setattr(pin_keeper, "_EXPIRY_CHECK_SECONDS", 0.01)
    time_ = 0.0
    async with running(Cache()) as cache:
        names = Names(versions)
        pins = PinService(cache.controller, ResidencyStore(database, "here"), names, lambda: time_)
        keeping = asyncio.create_task(pins.expire())
        await pins.pin(versions[0], Tier.HOST, ttl_seconds=60, actor="sre")
        jump = timedelta(hours=1)
        await asyncio.sleep(0.05)
        assert [kept.version for kept in pins.active] == [versions[0]]
        jump = timedelta(hours=-1)
        time_ = 60.0
        await until(lambda: not pins.active)
        async with asyncio.timeout(10):
            while await ResidencyStore(database, "here").pins():
                await asyncio.sleep(0.01)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
