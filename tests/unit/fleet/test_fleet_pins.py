"""Pins of a fleet beside each other: none waits for another, and each replica hears of all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.errors import NotPinned
from engine.types import AdapterVersion, Tier
from fleet.ingress.pins import FleetPins
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.serving_replicas import serving_ranks
from fleet.messages import ReplicaResults, WantedPin
from fleet.placement import first_for
from registry.residency import NullResidencyStore
from tests.support.cache.controller_harness import A, B, C, settle, until
from tests.support.cache.fake_fleet import FakeReplica, FakeReplicas, Names, fake_fleet

NAMES = ("one", "two", "three")


@pytest.fixture
async def replicas() -> AsyncIterator[FakeReplicas]:
    made = (FakeReplica(name, slots=4, host=8) for name in NAMES)
    async with fake_fleet(*made) as fleet:
        yield fleet


@pytest.fixture
def pins(replicas: FakeReplicas) -> FleetPins:
    return FleetPins(replicas, NullResidencyStore(), Names(), RecentResidency())


def is_pinned(replicas: FakeReplicas, name: str, version: AdapterVersion) -> bool:
    return version in [kept.version for kept in replicas.of(name).pins.active]


def on_one(version: AdapterVersion) -> str:
    (name,) = first_for(version.reference, NAMES, 1)
    return name


def hang(replicas: FakeReplicas, name: str) -> asyncio.Event:
    """The replica's loads, until this is set."""
    may_load = replicas.of(name).controlled.backend.may_load
    may_load.clear()
    return may_load


async def test_a_slow_pin_holds_up_no_other(replicas: FakeReplicas, pins: FleetPins) -> None:
    """Of other adapters on the same replica, or on another one; nor an unpinning."""
    await pins.pin(B, Tier.HOST, None, None, actor="me")
    may_load = hang(replicas, on_one(A))
    slow = asyncio.create_task(pins.pin(A, Tier.HOST, None, None, actor="me"))
    await settle()
    async with asyncio.timeout(10):
        assert await pins.unpin(B, actor="me") is Tier.HOST
        await pins.hold()
        elsewhere = next(name for name in NAMES if name != on_one(A))
        await replicas.of(on_one(A)).controlled.use(B)  # in memory already
        await pins.pin(B, Tier.HOST, None, None, actor="me")
    assert is_pinned(replicas, on_one(A), B)
    assert is_pinned(replicas, elsewhere, A), "where it could be loaded"
    assert not slow.done()
    may_load.set()
    await slow
    await pins.hold()
    for name in NAMES:
        assert is_pinned(replicas, name, A)
        assert is_pinned(replicas, name, B)


async def test_changes_of_one_pin_are_made_one_after_the_other(
    replicas: FakeReplicas, pins: FleetPins
) -> None:
    may_load = hang(replicas, on_one(A))
    slow = asyncio.create_task(pins.pin(A, Tier.HOST, None, 1, actor="me"))
    await settle()
    undo = asyncio.create_task(pins.unpin(A, actor="me"))
    await settle()
    assert not undo.done()
    may_load.set()
    await slow
    assert await undo is Tier.HOST
    assert not is_pinned(replicas, on_one(A), A)
    with pytest.raises(NotPinned):
        await pins.unpin(A, actor="me")


async def test_a_pin_that_is_begun_is_left_alone_by_what_holds_the_others(
    replicas: FakeReplicas, pins: FleetPins
) -> None:
    """It is not among them yet: where it is loaded first, it was let go again."""
    first, second, *_ = sorted(NAMES, key=lambda name: name != on_one(A))
    may_load = hang(replicas, second)
    slow = asyncio.create_task(pins.pin(A, Tier.HOST, None, None, actor="me"))
    await until(lambda: is_pinned(replicas, first, A))
    await pins.hold()
    assert is_pinned(replicas, first, A)
    may_load.set()
    await slow
    assert all(is_pinned(replicas, name, A) for name in NAMES)


async def test_a_pin_that_is_given_up_is_let_go_everywhere(
    replicas: FakeReplicas, pins: FleetPins
) -> None:
    """Its operator's client has left, for example."""
    first, second, *_ = sorted(NAMES, key=lambda name: name != on_one(A))
    may_load = hang(replicas, second)
    slow = asyncio.create_task(pins.pin(A, Tier.HOST, None, None, actor="me"))
    await until(lambda: is_pinned(replicas, first, A))
    slow.cancel()
    with suppress(asyncio.CancelledError):
        await slow
    may_load.set()
    await pins.hold()
    assert not any(is_pinned(replicas, name, A) for name in NAMES)
    assert await pins.list() == ()


async def test_a_pin_that_is_unwanted_before_it_has_begun_can_be_wanted_again(
    replicas: FakeReplicas,
) -> None:
    (one,) = [each for each in replicas.there if each.name == "one"]
    await asyncio.gather(hold(one, [WantedPin(A, Tier.HOST)]), hold(one, []))
    assert not is_pinned(replicas, "one", A)
    await hold(one, [WantedPin(A, Tier.HOST)])
    assert is_pinned(replicas, "one", A)


async def test_a_replica_holds_what_loads_and_not_what_hangs(replicas: FakeReplicas) -> None:
    """And gives up what is not wanted any more, also while it is loaded."""
    (one,) = [each for each in replicas.there if each.name == "one"]
    wanted = [WantedPin(A, Tier.HOST), WantedPin(B, Tier.HOST)]
    await one.controlled.use(B)
    may_load = hang(replicas, "one")
    async with asyncio.timeout(10):
        assert await hold(one, wanted) == {}
    assert [pin.version for pin in one.pins.active] == [B]
    async with asyncio.timeout(10):
        assert await hold(one, [*wanted, WantedPin(C, Tier.HOST)][1:]) == {}
    may_load.set()
    await until(lambda: len(one.pins.active) == 2)
    assert [pin.version for pin in one.pins.active] == [B, C]


async def hold(replica: FakeReplica, wanted: list[WantedPin]) -> Any:
    answer = await replica.replica.call("hold_pins", (wanted, frozenset()), None)
    assert answer is not None
    return answer.value


async def test_a_pin_is_renewed_while_it_expires(replicas: FakeReplicas, pins: FleetPins) -> None:
    """However long that takes, none of the others waits for it."""
    await pins.pin(A, Tier.HOST, 0.01, 1, actor="me")
    soon = datetime.now(UTC) + timedelta(seconds=0.02)
    await until(lambda: datetime.now(UTC) >= soon)
    may_load = hang(replicas, next(name for name in NAMES if name != on_one(A)))
    renewing = asyncio.create_task(pins.pin(A, Tier.HOST, 3600.0, None, actor="me"))
    await settle()
    async with asyncio.timeout(10):
        await pins.hold()
    may_load.set()
    await renewing
    await pins.hold()
    assert is_pinned(replicas, on_one(A), A)
    (kept,) = await pins.list()
    assert kept.expires_at is not None
    assert kept.expires_at > soon


class AskedTogether(FakeReplicas):
    """Answers about itself only once all was asked."""

    def __init__(self, *replicas: FakeReplica) -> None:
        super().__init__(*replicas)
        self._both = asyncio.Barrier(2)

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        await self._both.wait()
        return await super().call(operation, *arguments, only=only)


async def test_who_serves_and_which_ranks_is_asked_at_once(replicas: FakeReplicas) -> None:
    async with asyncio.timeout(10):
        ranks = await serving_ranks(AskedTogether(*replicas.there))
    assert set(ranks) == set(NAMES)
