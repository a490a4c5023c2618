"""Pins: controller, memory and database agree, whatever else is requested during a write."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from engine.errors import NotPinned
from engine.operations import pins as module
from engine.operations.pins import PinService, StoredPin
from engine.types import AdapterVersion, Tier
from registry.errors import DatabaseUnavailable
from tests.support.cache.controller_harness import A, Cache, running, until


@dataclass
class SlowStore:
    """Writes when `go` is set; `writing` names the write that waits for it."""

    stored: dict[int, str] = field(default_factory=dict)
    writing: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    is_away: bool = False

    async def _write(self, what: str) -> None:
        self.writing.append(what)
        await self.go.wait()
        await asyncio.sleep(0.001)
        self.writing.remove(what)
        if self.is_away:
            raise DatabaseUnavailable("it is restarted")

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None,
    ) -> None:
        await self._write("save")
        self.stored[version_id] = tier

    async def remove_pin(self, version_id: int, *, actor: str) -> None:
        await self._write("remove")
        self.stored.pop(version_id, None)

    async def expire_pins(self, version_ids: Sequence[int]) -> None:
        await self._write("expire")
        for version_id in version_ids:
            self.stored.pop(version_id, None)

    async def pins(self) -> Sequence[StoredPin]:
        return ()


class Unresolved:
    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        raise AssertionError(text)

    async def find(self, text: str) -> AdapterVersion:
        raise AssertionError(text)


@dataclass
class Scene:
    cache: Cache
    store: SlowStore
    service: PinService
    time: float = 0.0

    def pin(self, tier: Tier = Tier.HOST, ttl: float | None = None) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.service.pin(A, tier, ttl, actor="sre"))

    def unpin(self) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.service.unpin(A, actor="sre"))

    def tiers(self) -> tuple[Tier | None, Tier | None, str | None]:
        """Of A's pin, as the controller, the service and the database have it."""
        active = {pin.version.id: pin.tier for pin in self.service.active}
        return (
            self.cache.policy.pins.tier_of(A.id),
            active.get(A.id),
            self.store.stored.get(A.id),
        )

    async def settle(self, *tasks: "asyncio.Task[Any]") -> None:
        await asyncio.sleep(0.05)  # the second waits for the first, or overtakes it
        self.store.go.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: not self.store.writing)


@asynccontextmanager
async def pinned(ttl: float | None = None, tier: Tier = Tier.HOST) -> AsyncIterator[Scene]:
    async with running(Cache()) as cache:
        store = SlowStore()
        scene = Scene(cache, store, PinService(cache.controller, store, Unresolved()))
        scene.service._clock = lambda: scene.time
        store.go.set()
        await scene.pin(tier, ttl)
        store.go.clear()
        yield scene


@asynccontextmanager
async def expiring(scene: Scene) -> AsyncIterator[None]:
    work: Coroutine[Any, Any, None] = scene.service.expire()
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXPIRY_CHECK_SECONDS", 0.005)


NOWHERE = (None, None, None)


@pytest.mark.parametrize("tier", Tier)
async def test_a_pin_that_is_renewed_while_its_unpin_is_written_is_pinned_everywhere(
    tier: Tier,
) -> None:
    async with pinned() as scene:
        unpin = scene.unpin()
        await until(lambda: scene.store.writing == ["remove"])
        renewal = scene.pin(tier)
        await scene.settle(unpin, renewal)
        assert scene.tiers() == (tier, tier, tier)


async def test_a_pin_that_is_removed_while_its_renewal_is_written_is_pinned_nowhere() -> None:
    async with pinned() as scene:
        renewal = scene.pin(Tier.GPU)
        await until(lambda: scene.store.writing == ["save"])
        unpin = scene.unpin()
        await scene.settle(renewal, unpin)
        assert scene.tiers() == NOWHERE


async def test_a_pin_that_is_renewed_while_its_expiry_is_written_is_pinned_everywhere() -> None:
    async with pinned(ttl=10) as scene, expiring(scene):
        scene.time = 11
        await until(lambda: scene.store.writing == ["expire"])
        renewal = scene.pin(ttl=10)
        await scene.settle(renewal)
        assert scene.tiers() == (Tier.HOST, Tier.HOST, Tier.HOST)


async def test_a_pin_does_not_expire_while_its_renewal_is_written() -> None:
    async with pinned(ttl=10) as scene, expiring(scene):
        renewal = scene.pin(ttl=100)
        await until(lambda: scene.store.writing == ["save"])
        scene.time = 11
        await asyncio.sleep(0.05)
        await scene.settle(renewal)
        await asyncio.sleep(0.05)
        assert scene.tiers() == (Tier.HOST, Tier.HOST, Tier.HOST)


@pytest.mark.parametrize("renewed", Tier)
@pytest.mark.parametrize("tier", Tier)
async def test_a_pin_whose_renewal_can_not_be_saved_holds_as_before(
    tier: Tier, renewed: Tier
) -> None:
    async with pinned(ttl=10, tier=tier) as scene, expiring(scene):
        scene.store.go.set()
        scene.store.is_away = True
        with pytest.raises(DatabaseUnavailable):
            await scene.pin(renewed, ttl=100)
        assert scene.tiers() == (tier, tier, tier)
        scene.store.is_away = False
        scene.time = 11
        await until(lambda: scene.tiers() == NOWHERE)


async def test_of_an_unpin_and_an_expiry_one_is_written() -> None:
    async with pinned(ttl=10) as scene, expiring(scene):
        unpin = scene.unpin()
        await until(lambda: scene.store.writing == ["remove"])
        scene.time = 11
        await scene.settle(unpin)
        assert scene.tiers() == NOWHERE
        with pytest.raises(NotPinned):
            await scene.unpin()


async def test_a_pin_that_is_removed_while_it_enters_a_new_engine_is_pinned_nowhere() -> None:
    async with pinned() as scene:
        scene.store.go.set()
        repinning = asyncio.create_task(scene.service.repin())
        await asyncio.gather(scene.unpin(), repinning)
        assert scene.tiers() == NOWHERE


async def test_no_lock_is_left_of_a_change_that_is_over() -> None:
    async with pinned() as scene:
        scene.store.go.set()
        await scene.unpin()
        assert not scene.service._locks
