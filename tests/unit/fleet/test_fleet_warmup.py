"""What was in memory comes back after a replica died, or all of them; over fake engines."""

from collections.abc import Sequence

import pytest

from engine.errors import EngineUnavailable
from engine.telemetry.decision_log import DecisionLog
from engine.types import AdapterVersion
from fleet.ingress import warmup as module
from fleet.ingress.replica_choice import first_for
from fleet.ingress.replica_poller import Following
from fleet.ingress.warmup import FleetWarmUp
from registry.errors import DatabaseUnavailable
from registry.residency import NullResidencyStore
from tests.support.cache.controller_harness import adapter, until
from tests.support.cache.fake_fleet import FakeReplica, FakeReplicas, Names, fake_fleet

ALL = [adapter(number) for number in range(1, 9)]
PLACES = 6


class Store(NullResidencyStore):
    """Remembers residents; `broken` while the database is away. `unknown`: none of ours."""

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
    """An entrance's warm-up over these replicas."""

    def __init__(self, replicas: FakeReplicas, store: Store, expected: int) -> None:
        self.replicas = replicas
        self.store = store
        self.following = Following(replicas, DecisionLog())
        self.warm_up = FleetWarmUp(
            replicas, self.following, store, Names(), expected=expected, save_seconds=60
        )

    async def look(self) -> None:
        await self.following.look()
        await self.warm_up.look()

    def everywhere(self) -> list[str]:
        return sorted(reference for held in self.replicas.held().values() for reference in held)


def replica(name: str) -> FakeReplica:
    return FakeReplica(name, host=PLACES)


def references(versions: Sequence[AdapterVersion]) -> list[str]:
    return sorted(version.reference for version in versions)


async def test_after_a_restart_each_comes_back_once_where_requests_will_look_for_it() -> None:
    store = Store(*ALL[:4], unknown=["retired:1"])
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        fleet = Fleet(replicas, store, expected=2)
        await fleet.warm_up.recall()
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL[:4]))
        for version in ALL[:4]:
            (name,) = first_for(version.reference, ("one", "two"), 1)
            assert version.reference in replicas.held()[name]


async def test_nothing_comes_back_before_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        late = replicas.there.pop()
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=2)
        await fleet.warm_up.recall()
        await fleet.look()
        await fleet.look()
        assert fleet.everywhere() == []
        await fleet.warm_up.save()
        assert fleet.store.saved == [version.id for version in ALL[:4]], "still to come"
        replicas.there.append(late)
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL[:4]))
        assert all(replicas.held().values())


async def test_one_that_never_comes_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(*ALL[:4]), expected=2)
        await fleet.warm_up.recall()
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL[:4]))


async def test_what_a_dead_one_had_is_held_by_its_successor_as_far_as_there_is_room() -> None:
    async with fake_fleet(replica("one"), replica("two"), replica("three")) as replicas:
        successor = replicas.there.pop()
        fleet = Fleet(replicas, Store(), expected=2)
        await fleet.warm_up.recall()
        for name, versions in (("one", ALL[:4]), ("two", ALL[3:])):
            for version in versions:
                await replicas.ask("prefetch", version, only=frozenset({name}))
        await until(lambda: len(fleet.everywhere()) == 4 + 5)
        await fleet.look()
        dead = replicas.of("two")
        replicas.there.remove(dead)
        await fleet.look()
        await fleet.warm_up.save()
        assert sorted(fleet.store.saved) == [version.id for version in ALL], "the dead one's too"
        replicas.there.append(successor)
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL))
        assert replicas.held()["one"] >= set(references(ALL[:4])), "nobody had to go"
        assert len(replicas.held()["one"]) <= PLACES


async def test_what_is_in_memory_is_not_loaded_a_second_time() -> None:
    """As when only the entrance starts again."""
    async with fake_fleet(replica("one"), replica("two")) as replicas:
        await replicas.ask("prefetch", ALL[0], only=frozenset({"one"}))
        await replicas.ask("prefetch", ALL[1], only=frozenset({"two"}))
        fleet = Fleet(replicas, Store(*ALL[:3]), expected=2)
        await until(lambda: len(fleet.everywhere()) == 2)
        await fleet.warm_up.recall()
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL[:3]))


async def test_what_an_engine_had_that_is_being_replaced_stays_saved() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(), expected=1)
        await replicas.ask("prefetch", ALL[0])
        await until(lambda: fleet.everywhere() == ["a1:1"])
        await fleet.look()
        controller = replicas.of("one").controlled.controller
        await controller.on_engine_lost(EngineUnavailable("it ended"))
        await fleet.look()
        await fleet.warm_up.save()
        assert fleet.store.saved == [ALL[0].id]


async def test_only_what_is_new_is_written_and_an_outage_is_waited_for() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(), expected=1)
        await replicas.ask("prefetch", ALL[0])
        await until(lambda: fleet.everywhere() == ["a1:1"])
        await fleet.look()
        fleet.store.broken = True
        await fleet.warm_up.save()
        fleet.store.broken = False
        assert fleet.store.writes == 0
        await fleet.warm_up.save()
        await fleet.warm_up.save()
        assert (fleet.store.saved, fleet.store.writes) == ([ALL[0].id], 1)


async def test_without_a_database_it_starts_cold() -> None:
    async with fake_fleet(replica("one")) as replicas:
        store = Store(*ALL[:2])
        store.broken = True
        fleet = Fleet(replicas, store, expected=1)
        await fleet.warm_up.recall()
        await fleet.look()
        assert fleet.everywhere() == []


async def test_what_could_not_be_given_back_is_tried_again() -> None:
    async with fake_fleet(replica("one")) as replicas:
        fleet = Fleet(replicas, Store(*ALL[:2]), expected=1)
        await fleet.warm_up.recall()
        await fleet.following.look()
        there, replicas.there = replicas.there, []
        with pytest.raises(EngineUnavailable):
            await fleet.warm_up.look()
        replicas.there = there
        await fleet.look()
        await until(lambda: fleet.everywhere() == references(ALL[:2]))
