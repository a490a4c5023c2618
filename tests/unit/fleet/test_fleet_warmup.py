"""Warm-up across replicas with fake engines: adapters are reloaded after one or all were lost."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from engine.errors import EngineUnavailable
from engine.telemetry.decision_log import DecisionLog
from engine.types import AdapterVersion
from fleet.ingress import warmup as module
from fleet.ingress.replica_poller import ReplicaPoller
from fleet.ingress.warmup import FleetWarmUp
from fleet.messages import ReplicaResults
from fleet.placement import first_for
from registry.errors import DatabaseUnavailable
from registry.residency import NullResidencyStore
from tests.support.cache.controller_harness import adapter, settle, until
from tests.support.cache.fake_fleet import FakeReplica, FakeReplicas, Names, fake_fleet

ALL = [adapter(number) for number in range(1, 9)]
PLACES = 6


class Store(NullResidencyStore):
    """Stores residents in memory; `broken` while the database is away."""

    def __init__(self, *saved: AdapterVersion, unknown: Sequence[str] = ()) -> None:
        self.saved: list[int] = [version.id for version in saved]
        self.unknown = list(unknown)
        self.broken = False
        self.writes = 0

    async def save_residents(self, version_ids: Sequence[int]) -> None:
        if self.broken:
            raise DatabaseUnavailable("gone")
        self.saved = list(version_ids)
        self.writes += 1

    async def residents(self) -> list[str]:
        if self.broken:
            raise DatabaseUnavailable("gone")
        return [*self.unknown, *(f"a{number}:1" for number in self.saved)]


class Fleet:
    """An ingress's warm-up over these replicas."""

    def __init__(self, replicas: FakeReplicas, store: Store, expected: int) -> None:
        self.replicas = replicas
        self.store = store
        self.poller = ReplicaPoller(replicas, DecisionLog())
        self.expected = expected
        self.warm_up = FleetWarmUp(
            replicas, self.poller, store, Names(), expected=self._expected, save_seconds=60
        )

    async def _expected(self) -> int:
        return self.expected

    async def poll(self) -> None:
        await self.poller.poll()
        await self.warm_up.poll()

    def resident(self) -> list[str]:
        return sorted(reference for held in self.replicas.held().values() for reference in held)


def replica(name: str) -> FakeReplica:
    return FakeReplica(name, host=PLACES)


def references(versions: Sequence[AdapterVersion]) -> list[str]:
    return sorted(version.reference for version in versions)


async def test_after_a_restart_each_adapter_is_reloaded_once_where_its_requests_go() -> None:
    store = Store(*ALL[:4], unknown=["retired:1"])
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        fleet = Fleet(replicas, store, expected=2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:4]))
        for version in ALL[:4]:
            (name,) = first_for(version.reference, ("one", "two"), 1)
            assert version.reference in replicas.held()[name]


async def test_what_has_small_ranks_is_reloaded_where_the_slots_are_small() -> None:
    async with fake_fleet(
        FakeReplica("large", host=PLACES, max_rank=64),
        FakeReplica("small", host=PLACES, max_rank=8),
    ) as replicas:
        fleet = Fleet(replicas, Store(*ALL), expected=2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL))
        assert len(replicas.held()["small"]) == PLACES, "all that have room there"


async def test_what_no_replica_has_room_for_waits_for_one_that_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    small = FakeReplica("small", host=PLACES, max_rank=4)
    async with fake_fleet(FakeReplica("large", host=PLACES), small) as replicas:
        large = replicas.there.pop(0)
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await settle()
        assert fleet.resident() == []
        replicas.there.append(large)
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:4]))
        assert replicas.held()["small"] == set()


async def test_nothing_is_reloaded_before_all_replicas_are_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        late = replicas.there.pop()
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await fleet.poll()
        assert fleet.resident() == []
        await fleet.warm_up.save()
        assert fleet.store.saved == [version.id for version in ALL[:4]], "not reloaded yet"
        replicas.there.append(late)
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:4]))
        assert all(replicas.held().values())


async def test_as_many_are_awaited_as_the_deployment_has_now() -> None:
    """Its `num_replicas` may be another number than the fleet was configured with."""
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        late = replicas.there.pop()
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=1)
        await fleet.warm_up.load_residents()
        fleet.expected = 2
        await fleet.poll()
        await settle()
        assert fleet.resident() == []
        replicas.there.append(late)
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:4]))
        assert all(replicas.held().values())


async def test_a_replica_that_never_starts_is_not_awaited_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:4]))


async def test_a_successor_reloads_what_a_dead_replica_held_as_far_as_there_is_room() -> None:
    async with fake_fleet(replica("one"), replica("two"), replica("three")) as replicas:
        successor = replicas.there.pop()
        fleet = Fleet(replicas, Store(), expected=2)
        await fleet.warm_up.load_residents()
        for name, versions in (("one", ALL[:4]), ("two", ALL[3:])):
            for version in versions:
                await replicas.call("prefetch", version, only=frozenset({name}))
        await until(lambda: len(fleet.resident()) == 4 + 5)
        await fleet.poll()
        dead = replicas.of("two")
        replicas.there.remove(dead)
        await fleet.poll()
        await fleet.warm_up.save()
        assert sorted(fleet.store.saved) == [version.id for version in ALL], (
            "also those of the dead replica"
        )
        replicas.there.append(successor)
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL))
        assert replicas.held()["one"] >= set(references(ALL[:4])), "nothing was evicted"
        assert len(replicas.held()["one"]) <= PLACES


async def test_a_resident_adapter_is_not_loaded_a_second_time() -> None:
    """As when only the ingress restarts."""
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        await replicas.call("prefetch", ALL[0], only=frozenset({"one"}))
        await replicas.call("prefetch", ALL[1], only=frozenset({"two"}))
        fleet = Fleet(replicas, Store(*ALL[:3]), expected=2)
        await until(lambda: len(fleet.resident()) == 2)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:3]))


async def test_the_adapters_of_an_engine_that_is_restarting_stay_saved() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(), expected=1)
        await replicas.call("prefetch", ALL[0])
        await until(lambda: fleet.resident() == ["a1:1"])
        await fleet.poll()
        controller = replicas.of("one").controlled.controller
        await controller.on_engine_lost(EngineUnavailable("it ended"))
        await fleet.poll()
        await fleet.warm_up.save()
        assert fleet.store.saved == [ALL[0].id]


async def test_only_changes_are_saved_and_saving_is_retried_after_an_outage() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(), expected=1)
        await replicas.call("prefetch", ALL[0])
        await until(lambda: fleet.resident() == ["a1:1"])
        await fleet.poll()
        fleet.store.broken = True
        await fleet.warm_up.save()
        fleet.store.broken = False
        assert fleet.store.writes == 0
        await fleet.warm_up.save()
        await fleet.warm_up.save()
        assert (fleet.store.saved, fleet.store.writes) == ([ALL[0].id], 1)


async def test_without_a_database_the_fleet_starts_cold() -> None:
    async with fake_fleet(replica("one")) as replicas:
        store = Store(*ALL[:2])
        store.broken = True
        fleet = Fleet(replicas, store, expected=1)
        await fleet.warm_up.load_residents()
        await fleet.poll()
        assert fleet.resident() == []


async def test_a_failed_reload_is_retried() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(*ALL[:2]), expected=1)
        await fleet.warm_up.load_residents()
        await fleet.poller.poll()
        there, replicas.there = replicas.there, []
        with pytest.raises(EngineUnavailable):
            await fleet.warm_up.poll()
        replicas.there = there
        await fleet.poll()
        await until(lambda: fleet.resident() == references(ALL[:2]))


class Away(FakeReplicas):
    """One of them goes, and another is slow, when what was lost is to be brought back."""

    def __init__(self, gone: str, *replicas: FakeReplica) -> None:
        super().__init__(*replicas)
        self._gone = gone
        self._both = asyncio.Barrier(2)

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        if operation == "bring_back":
            await self._both.wait()
            if only == frozenset({self._gone}):
                raise EngineUnavailable("no replica answers")
        return await super().call(operation, *arguments, only=only)


@pytest.mark.parametrize("gone", ["one", "two"])
async def test_a_replica_that_goes_keeps_no_other_from_getting_its_adapters_back(gone: str) -> None:
    versions, made = ALL[:4], (replica("one"), replica("two"))
    async with fake_fleet(*made):
        store = Store(*versions)
        fleet = Fleet(Away(gone, *made), store, expected=2)
        await fleet.warm_up.load_residents()
        async with asyncio.timeout(10):
            await fleet.poll()
        lost = {
            v.reference for v in versions if first_for(v.reference, ("one", "two"), 1) == {gone}
        }
        await until(lambda: len(fleet.resident()) == len(versions) - len(lost))
        assert lost.isdisjoint(fleet.resident())
        await fleet.poll()
        await fleet.warm_up.save()
        assert set(store.saved) == {version.id for version in versions}, "none is forgotten"
