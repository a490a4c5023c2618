"""Cache control across replicas with fake engines: pins, promotions, snapshots, decisions."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.errors import (
    AdapterInUse,
    AdapterPinned,
    EngineUnavailable,
    NotPinned,
    PinBudgetExceeded,
)
from engine.telemetry.decision_log import DecisionLog
from engine.types import AdapterVersion, Tier
from fleet.ingress.cache_control import FleetCache
from fleet.ingress.pins import FleetPins
from fleet.ingress.promotion import FleetProbe, FleetPromotion
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.replica_poller import ReplicaPoller
from fleet.messages import ReplicaResults
from fleet.placement import Bound, first_for, order
from fleet.stock.replicas import StockReplicas
from registry.catalog.types import ResolvedVersion
from registry.errors import DatabaseUnavailable, EngineAway, OtherBaseModel
from registry.residency import NullResidencyStore, StoredPin
from tests.support.cache.controller_harness import A, B, C, settle, until
from tests.support.cache.fake_fleet import FACTS, FakeReplica, FakeReplicas, Names, fake_fleet

NAMES = ("one", "two", "three")


class Store(NullResidencyStore):
    """Stores pins in memory; `broken` while the database is away."""

    def __init__(self) -> None:
        self.saved: dict[int, StoredPin] = {}
        self.forgotten: list[int] = []
        self.broken = False

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None = None,
    ) -> None:
        if self.broken:
            raise DatabaseUnavailable("gone")
        reference = f"a{version_id}:1"
        self.saved[version_id] = StoredPin(version_id, reference, tier, expires_at, replicas)

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        self.saved.pop(version_id, None)

    async def expire_pins(self, version_ids: object) -> None:
        self.forgotten += list(version_ids)  # type: ignore[call-overload]  # of ids

    async def pins(self) -> list[StoredPin]:
        return list(self.saved.values())


@pytest.fixture
async def replicas() -> AsyncIterator[FakeReplicas]:
    async with fake_fleet(*(FakeReplica(name) for name in NAMES)) as fleet:
        yield fleet


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def pins(replicas: FakeReplicas, store: Store) -> FleetPins:
    return FleetPins(replicas, store, Names(), RecentResidency())


@pytest.fixture
def cache(replicas: FakeReplicas, pins: FleetPins) -> FleetCache:
    return FleetCache(replicas, pins)


def pinned_on(replicas: FakeReplicas, version: AdapterVersion) -> set[str]:
    return {
        each.name for each in replicas.there if each.controlled.controller.is_pinned(version.id)
    }


async def test_a_pin_is_held_by_all_replicas_or_by_a_count(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    await pins.pin(A, Tier.HOST, None, None, actor="me")
    assert pinned_on(replicas, A) == set(NAMES)
    kept = await pins.pin(A, Tier.GPU, None, 2, actor="me")
    assert (kept.tier, kept.replicas) == (Tier.GPU, 2)
    assert pinned_on(replicas, A) == first_for(A.reference, NAMES, 2)
    assert store.saved[A.id].replicas == 2
    assert [kept.version for kept in await pins.list()] == [A]
    assert await pins.unpin(A, actor="me") is Tier.GPU
    assert pinned_on(replicas, A) == set()
    with pytest.raises(NotPinned):
        await pins.unpin(A, actor="me")


async def test_a_pin_that_one_replica_refuses_is_held_by_none(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    full = replicas.of("two")
    await full.pins.pin(B, Tier.GPU, actor="me")
    with pytest.raises(PinBudgetExceeded):
        await pins.pin(A, Tier.GPU, None, None, actor="me")
    assert pinned_on(replicas, A) == set()
    assert store.saved == {}


async def test_a_load_is_answered_once_the_adapter_is_there(
    replicas: FakeReplicas, pins: FleetPins
) -> None:
    (chosen,) = first_for(A.reference, NAMES, 1)
    backend = replicas.of(chosen).controlled.backend
    backend.may_load.clear()
    loading = asyncio.create_task(FleetCache(replicas, pins).load_into_host(A))
    await settle()
    assert not loading.done()
    assert A.reference not in replicas.held()[chosen]
    backend.may_load.set()
    await loading
    assert A.reference in replicas.held()[chosen]


async def test_a_replica_of_other_base_weights_loads_nothing_of_ours(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    """Its node holds other files than the ingress's, which resolved the version by its own."""
    other = replicas.of("two")
    other.of_other_base.add(A.reference)
    with pytest.raises(OtherBaseModel):
        await pins.pin(A, Tier.HOST, None, None, actor="me")
    assert pinned_on(replicas, A) == set()
    assert store.saved == {}
    operations = other.replica
    loads = (("prefetch", (A,)), ("load_into_host", (A,)), ("warm", (A, ())), ("probe", (A,)))
    for operation, arguments in loads:
        answer = await operations.call(operation, arguments, None)
        assert answer is not None
        assert isinstance(answer.failure, OtherBaseModel), operation
    brought = await operations.call("bring_back", ([A, B],), None)
    assert brought is not None
    assert brought.failure is None
    await until(lambda: B.reference in replicas.held()["two"])
    assert A.reference not in replicas.held()["two"]


async def test_a_pin_that_can_not_be_stored_is_held_by_none(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    store.broken = True
    with pytest.raises(DatabaseUnavailable):
        await pins.pin(A, Tier.HOST, None, None, actor="me")
    assert pinned_on(replicas, A) == set()
    assert await pins.list() == ()


async def test_a_replica_that_joins_gets_its_pins(replicas: FakeReplicas, pins: FleetPins) -> None:
    absent = replicas.there.pop()
    await pins.pin(A, Tier.HOST, None, None, actor="me")
    await pins.pin(B, Tier.HOST, None, 1, actor="me")
    assert pinned_on(replicas, A) == {"one", "two"}
    replicas.there.append(absent)
    await pins.hold()
    assert pinned_on(replicas, A) == set(NAMES)
    assert pinned_on(replicas, B) == first_for(B.reference, NAMES, 1)


async def test_stored_pins_are_restored_at_startup_and_expire(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    store.saved = {
        1: StoredPin(1, "a1:1", "host", None),
        2: StoredPin(2, "a2:1", "host", soon, 1),
        3: StoredPin(3, "gone", "host", None),
    }
    await pins.restore()
    await pins.hold()
    assert pinned_on(replicas, A) == set(NAMES)
    assert len(pinned_on(replicas, B)) == 1
    while datetime.now(UTC) < soon:
        await until(lambda: datetime.now(UTC) >= soon)
    await pins.hold()
    assert pinned_on(replicas, B) == set()
    assert store.forgotten == [2]


async def test_snapshots_and_decisions_of_all_replicas_are_combined(
    replicas: FakeReplicas, cache: FleetCache
) -> None:
    await replicas.of("one").controlled.use(A)
    await replicas.of("two").controlled.use(A)
    snapshots = await cache.snapshots()
    assert list(snapshots) == sorted(NAMES)
    holders = [n for n, each in snapshots.items() if any(r.version.id == A.id for r in each.host)]
    assert holders == ["one", "two"]
    states = await cache.engine_states()
    assert [len(states[name].host) for name in NAMES] == [1, 1, 0]
    events = await cache.about(A)
    assert {event.replica for event in events} == {"one", "two"}
    assert [event.at for event in events] == sorted((e.at for e in events), reverse=True)
    assert await cache.uses(A.id) is False


async def test_an_eviction_happens_on_all_replicas_or_none(
    replicas: FakeReplicas, cache: FleetCache
) -> None:
    for name in ("one", "two"):
        await replicas.of(name).controlled.use(A)
    async with replicas.of("two").controlled.controller.lease(A):
        with pytest.raises(AdapterInUse):
            await cache.evict(A, wait=False, force=False)
        assert await cache.uses(A.id)
    await replicas.of("two").pins.pin(A, Tier.HOST, actor="me")
    with pytest.raises(AdapterPinned):
        await cache.evict(A, wait=False, force=False)
    assert len((await cache.snapshots())["one"].host) == 1, "not there either"
    await replicas.of("two").pins.unpin(A, actor="me")
    assert await cache.evict(A, wait=False, force=False) is True
    assert await cache.evict(A, wait=False, force=False) is False


class Silent(FakeReplicas):
    """One more than answer."""

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        return replace(await super().call(operation, *arguments, only=only), unanswered=1)


async def test_what_a_replica_does_not_tell_is_not_unused(
    replicas: FakeReplicas, pins: FleetPins
) -> None:
    """Its files would be purged below it; the registry's routes know the registry's errors."""
    silent = FleetCache(Silent(*replicas.there), pins)
    with pytest.raises(EngineAway, match="does not answer"):
        await silent.uses(A.id)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await silent.evict(A, wait=False, force=False)
    replicas.there.clear()
    with pytest.raises(EngineAway):
        await FleetCache(replicas, pins).uses(A.id)


async def test_a_prefetch_goes_where_requests_will_go(
    replicas: FakeReplicas, cache: FleetCache
) -> None:
    await cache.prefetch(A, 1)
    (name,) = first_for(A.reference, NAMES, 1)
    await until(lambda: replicas.of(name).controlled.policy.in_host(A.id))
    await cache.prefetch(A, None)
    for each in replicas.there:
        await until(lambda each=each: each.controlled.policy.in_host(A.id))


async def test_without_replicas_the_engine_is_unavailable(
    replicas: FakeReplicas, cache: FleetCache
) -> None:
    replicas.there.clear()
    with pytest.raises(EngineUnavailable):
        await cache.snapshots()
    with pytest.raises(EngineAway):
        await FleetPromotion(replicas, RecentResidency()).warm(resolved(B), [resolved(A)])


def resolved(version: AdapterVersion) -> ResolvedVersion:
    from pathlib import Path

    return ResolvedVersion(
        adapter=version.adapter,
        number=version.number,
        version_id=version.id,
        digest=version.digest,
        path=Path(version.path),
        rank=version.rank,
        size_bytes=version.size_bytes,
        state="ready",
        state_reason=None,
        deprecated_at=None,
    )


async def test_a_promotion_warms_the_replicas_that_serve_the_old_version(
    replicas: FakeReplicas,
) -> None:
    for name in ("one", "three"):
        await replicas.of(name).controlled.use(A)
    recent = RecentResidency()
    promotion = FleetPromotion(replicas, recent)
    await promotion.warm(resolved(B), [resolved(A)])
    holders = {e.name for e in replicas.there if e.controlled.policy.in_host(B.id)}
    assert holders == {"one", "three"}
    assert recent.replicas_with(B.id) == {"one", "three"}
    assert all(replicas.of(n).controlled.policy.residency().gpu for n in holders)
    await promotion.probe(resolved(B))
    promotion.evict_when_idle(resolved(A))
    for name in holders:
        await until(lambda n=name: not replicas.of(n).controlled.policy.in_host(A.id))


async def test_without_an_old_version_it_is_warmed_where_requests_will_go(
    replicas: FakeReplicas,
) -> None:
    await FleetPromotion(replicas, RecentResidency()).warm(resolved(C), [])
    holders = {e.name for e in replicas.there if e.controlled.policy.in_host(C.id)}
    assert holders == first_for(C.reference, NAMES, 1)
    result = await FleetProbe(replicas).run(C)
    assert (result.reference, result.failure) == (C.reference, None)


async def test_a_replica_without_an_engine_is_not_warmed(replicas: FakeReplicas) -> None:
    for each in replicas.there:
        await each.controlled.use(A)
    await replicas.of("one").controlled.controller.on_engine_lost(EngineUnavailable("gone"))
    await FleetPromotion(replicas, RecentResidency()).warm(resolved(B), [resolved(A)])
    assert not replicas.of("one").controlled.policy.in_host(B.id)
    assert replicas.of("two").controlled.policy.in_host(B.id)


async def test_decisions_of_all_replicas_enter_one_log_once(replicas: FakeReplicas) -> None:
    log = DecisionLog()
    poller = ReplicaPoller(replicas, log)
    await replicas.of("one").controlled.use(A)
    await poller.poll()
    first = log.latest(100)
    assert {event.replica for event in first} == {"one"}
    await replicas.of("two").controlled.use(B)
    await poller.poll()
    await poller.poll()
    later = log.after(first[-1].id, 100)
    assert {event.replica for event in later} == {"two"}
    ids = [event.id for event in log.latest(100)]
    assert ids == sorted(set(ids))
    assert set(poller.snapshots) == set(NAMES)
    assert poller.usage("unknown").host_bytes == 0


async def test_each_adapter_is_kept_where_its_rank_fits(store: Store) -> None:
    """Pins, prefetches, promotions and probes; small ranks where the slots are small."""
    wide, small = replace(B, rank=64), {"one"}
    large = {"two", "three"}
    sizes = {"one": 8, "two": 64, "three": 64}
    made = [FakeReplica(name, max_rank=most) for name, most in sizes.items()]
    async with fake_fleet(*made) as replicas:
        pins = FleetPins(replicas, store, Names(), RecentResidency())
        cache = FleetCache(replicas, pins)
        await pins.pin(wide, Tier.HOST, None, None, actor="me")
        assert pinned_on(replicas, wide) == large
        await pins.hold()
        assert pinned_on(replicas, wide) == large
        await pins.pin(A, Tier.HOST, None, 1, actor="me")
        assert pinned_on(replicas, A) == small
        await pins.unpin(wide, actor="me")
        await cache.evict(wide, wait=False, force=False)
        await cache.load_into_host(wide)
        (holder,) = [name for name, held in replicas.held().items() if wide.reference in held]
        assert holder in large
        promoted = replace(C, rank=64)
        promotion = FleetPromotion(replicas, RecentResidency())
        await promotion.warm(resolved(promoted), [resolved(A)])
        (holder,) = [name for name, held in replicas.held().items() if C.reference in held]
        assert holder in large, "the old version is where the new one has no room"
        assert (await FleetProbe(replicas).run(promoted)).failure is None


def test_recent_residency_expires() -> None:
    now = [0.0]
    recent = RecentResidency(lambda: now[0])
    recent.record(A.id, ["one", "two"])
    now[0] = 2.0
    recent.record(A.id, ["two"])
    assert recent.replicas_with(A.id) == {"one", "two"}
    now[0] = 3.5
    assert recent.replicas_with(A.id) == {"two"}
    now[0] = 6.0
    assert recent.replicas_with(A.id) == frozenset()
    assert recent.replicas_with(B.id) == frozenset()


async def test_what_requests_need_is_put_where_they_go_while_a_replica_is_away(
    replicas: FakeReplicas, cache: FleetCache, pins: FleetPins, store: Store
) -> None:
    first, second, _ = order(A.reference, NAMES)
    away = replicas.of(first).controlled.controller
    await away.on_engine_lost(EngineUnavailable("gone"))
    await cache.load_into_host(A)
    assert A.reference in replicas.held()[second]
    assert (await FleetProbe(replicas).run(A)).failure is None
    await pins.pin(A, Tier.HOST, None, 1, actor="me")
    assert pinned_on(replicas, A) == {second}
    await pins.pin(B, Tier.HOST, None, None, actor="me")
    assert pinned_on(replicas, B) == set(NAMES) - {first}
    await pins.hold()
    assert pinned_on(replicas, A) == {second}
    away.on_engine_ready()
    await pins.hold()
    assert pinned_on(replicas, A) == {first}
    assert pinned_on(replicas, B) == set(NAMES)


async def test_a_pin_is_removed_while_no_engine_is_up(
    replicas: FakeReplicas, pins: FleetPins, store: Store
) -> None:
    """A 503 would say that it is still there, and the next attempt that it is not."""
    await pins.pin(A, Tier.HOST, None, None, actor="me")
    for each in replicas.there:
        await each.controlled.controller.on_engine_lost(EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        await pins.pin(B, Tier.HOST, None, None, actor="me")
    assert await pins.unpin(A, actor="me") is Tier.HOST
    assert (await pins.list(), store.saved) == ((), {})
    for each in replicas.there:
        each.controlled.controller.on_engine_ready()
    await pins.hold()
    assert pinned_on(replicas, A) == set()


async def test_a_rank_of_a_replica_that_is_away_is_put_on_no_smaller_one(store: Store) -> None:
    wide = replace(A, rank=64)
    made = [FakeReplica("small", max_rank=8), FakeReplica("large", max_rank=64)]
    async with fake_fleet(*made) as replicas:
        pins = FleetPins(replicas, store, Names(), RecentResidency())
        await pins.pin(wide, Tier.HOST, None, None, actor="me")
        await replicas.of("large").controlled.controller.on_engine_lost(EngineUnavailable("gone"))
        await pins.hold()
        assert not replicas.of("small").controlled.controller.is_pinned(wide.id)
        cache = FleetCache(replicas, pins)
        with pytest.raises(EngineUnavailable, match="room for the adapter's rank"):
            await cache.load_into_host(wide)
        await cache.load_into_host(B)
        assert B.reference in replicas.held()["small"]


async def test_a_stock_server_that_never_answered_keeps_no_pin_from_the_others(
    store: Store,
) -> None:
    async with fake_fleet(FakeReplica("two"), FakeReplica("three")) as fakes:
        replicas = StockReplicas(dict.fromkeys(NAMES, FACTS), Bound())
        replicas.connected = {each.name: each.replica for each in fakes.there}
        pins = FleetPins(replicas, store, Names(), RecentResidency())
        for version in (A, B, C):
            await pins.pin(version, Tier.HOST, None, 1, actor="me")
            assert len(pinned_on(fakes, version)) == 1
            await pins.hold()
            assert len(pinned_on(fakes, version)) == 1
        for version in (A, B, C):
            await FleetCache(replicas, pins).load_into_host(version)
            assert await pins.unpin(version, actor="me") is Tier.HOST


async def test_what_the_engines_hold_is_told_of_those_that_answer(
    replicas: FakeReplicas, cache: FleetCache
) -> None:
    await replicas.of("one").controlled.use(A)

    async def silent() -> None:
        raise EngineUnavailable("gone")

    replicas.of("two").controlled.backend.during_readback = silent
    states = await cache.engine_states()
    assert set(states) == {"one", "three"}
    for name in ("one", "three"):
        replicas.of(name).controlled.backend.during_readback = silent
    with pytest.raises(EngineUnavailable):
        await cache.engine_states()


async def test_decisions_of_a_replica_that_missed_a_poll_enter_the_log_once(
    replicas: FakeReplicas,
) -> None:
    log = DecisionLog()
    poller = ReplicaPoller(replicas, log)
    await replicas.of("one").controlled.use(A)
    await poller.poll()
    known = len(log.latest(100))
    silent = replicas.there.pop(0)
    await poller.poll()
    assert set(poller.snapshots) == {"two", "three"}
    replicas.there.append(silent)
    await poller.poll()
    assert len(log.latest(100)) == known > 0


class Dying(FakeReplicas):
    """`one` is gone between the question who is there and its pins."""

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        if operation == "hold_pins" and only == frozenset({"one"}):
            raise EngineUnavailable("no replica answers")
        return await super().call(operation, *arguments, only=only)


class Asked(FakeReplicas):
    """Notes what is asked, and of whom."""

    def __init__(self, *replicas: FakeReplica) -> None:
        super().__init__(*replicas)
        self.calls: list[tuple[str, frozenset[str] | None]] = []
        self.told: list[dict[str, int]] = []  # with the question for a report

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        self.calls.append((operation, only))
        self.told += [arguments[0]] if operation == "report" else []
        return await super().call(operation, *arguments, only=only)


async def test_a_replica_that_goes_keeps_no_pin_from_the_others(store: Store) -> None:
    async with fake_fleet(*(FakeReplica(name) for name in NAMES)) as fleet:
        pins = FleetPins(Dying(*fleet.there), store, Names(), RecentResidency())
        store.saved = {1: StoredPin(1, "a1:1", "host", None)}
        await pins.restore()
        await pins.hold()
        assert pinned_on(fleet, A) == {"two", "three"}


async def test_a_pin_tells_the_router_where_and_its_failure_is_logged_once(
    replicas: FakeReplicas, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    recent = RecentResidency()
    pins = FleetPins(replicas, store, Names(), recent)
    await pins.pin(A, Tier.HOST, None, 1, actor="me")
    assert recent.replicas_with(A.id) == first_for(A.reference, NAMES, 1)
    full = replicas.of("two")
    await pins.pin(B, Tier.HOST, None, None, actor="me")
    full.of_other_base.add(B.reference)
    await full.pins.unpin(B, actor="me")
    caplog.clear()
    for _ in range(3):
        await pins.hold()
    (record,) = caplog.records
    assert "a2:1 is not pinned on two" in record.message


async def test_a_promotion_warms_and_probes_one_replica_that_serves(
    replicas: FakeReplicas,
) -> None:
    first, second, _ = order(C.reference, NAMES)
    await replicas.of(first).controlled.controller.on_engine_lost(EngineUnavailable("gone"))
    promotion = FleetPromotion(replicas, RecentResidency())
    await promotion.warm(resolved(C), [])
    assert C.reference in replicas.held()[second]
    for each in replicas.there:
        if each.name != first:
            await each.controlled.use(C)
    asked = Asked(*replicas.there)
    await FleetPromotion(asked, RecentResidency()).probe(resolved(C))
    (only,) = [only for operation, only in asked.calls if operation == "probe"]
    assert only is not None
    assert len(only) == 1
    assert first not in only


def test_what_is_seen_again_keeps_no_other_from_being_forgotten() -> None:
    now = [0.0]
    recent = RecentResidency(lambda: now[0])
    recent.record(A.id, ["one"])
    now[0] = 1.0
    recent.record(B.id, ["two"])
    now[0] = 2.9
    recent.record(A.id, ["one"])
    now[0] = 4.5
    assert recent.replicas_with(B.id) == frozenset()
    assert recent.replicas_with(A.id) == {"one"}


async def test_more_decisions_than_one_report_has_come_with_the_next(
    replicas: FakeReplicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.replica.operations._MOST_DECISIONS", 2)
    one = replicas.of("one")
    for version in (A, B):
        await one.controlled.use(version)
    await settle()
    log = DecisionLog()
    poller = ReplicaPoller(replicas, log)
    for _ in range(20):
        await poller.poll()
    assert len(log.latest(100)) == len(one.log.latest(100)) > 4


async def test_replicas_that_are_gone_for_good_are_forgotten(
    replicas: FakeReplicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that is started again has another name."""
    monkeypatch.setattr("fleet.ingress.replica_poller._REMEMBERED", 2)
    asked = Asked(*replicas.there)
    poller = ReplicaPoller(asked, DecisionLog())
    for each in list(asked.there):
        asked.there[:] = [each]
        await poller.poll()
    asked.there[:] = replicas.there
    await poller.poll()
    assert len(asked.told) == 4
    assert [len(after) for after in asked.told] == [0, 1, 2, 2]
    await poller.poll()
    assert len(asked.told[-1]) == 3, "those that are there"
