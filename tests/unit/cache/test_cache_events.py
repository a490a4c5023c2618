"""Cache events: evictions with slot, idle time and cause; loads, drains, refusals, pins, drift."""

import asyncio
from typing import TypeVar

import pytest

from engine.errors import AdapterLoadFailed, EngineUnavailable, QueueFull, SlotWaitTimeout
from engine.events import (
    CacheEvent,
    Drained,
    Drifted,
    EngineLost,
    EngineReady,
    Evicted,
    LoadFailed,
    LoadStarted,
    LookedUp,
    MovedIn,
    Pinned,
    Refused,
    Unpinned,
)
from engine.types import (
    AdmissionLimits,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)
from tests.support.cache.controller_harness import A, B, C, Cache, D, running, settle, until

Kind = TypeVar("Kind", bound=CacheEvent)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def of(cache: Cache, kind: type[Kind]) -> list[Kind]:
    return [event for event in cache.observer.events if isinstance(event, kind)]


async def test_one_miss_is_reported_from_its_load_to_its_slot() -> None:
    async with running(Cache(slots=2, host=3, clock=Clock())) as cache:
        await cache.use(A)
        await until(lambda: len(cache.observer.moves) == 2)
        assert set(cache.observer.events) == {
            LoadStarted(A, awaited_by=1),
            LookedUp(A, CacheOutcome.MISS, MissCause.COLD, 0.0),
            MovedIn(A, Transition.DISK_TO_HOST, 0.0),
            MovedIn(A, Transition.HOST_TO_GPU, 0.0, slot=0),
        }
        await cache.use(A)
        assert cache.observer.events[-1] == LookedUp(A, CacheOutcome.GPU_HIT, None, 0.0)


async def test_a_load_without_waiters_is_reported_as_such() -> None:
    async with running(Cache()) as cache:
        await cache.controller.load_into_host(A)
        assert of(cache, LoadStarted) == [LoadStarted(A, awaited_by=0)]


async def test_an_eviction_names_its_slot_its_idle_time_and_what_needs_the_room() -> None:
    clock = Clock()
    async with running(Cache(slots=2, host=3, clock=clock)) as cache:
        for version in (A, B):
            await cache.use(version)
        await until(lambda: len(cache.observer.moves) == 4)
        clock.now += 41
        await cache.use(C)  # A leaves slot 0
        await until(lambda: len(cache.observer.moves) == 6)
        clock.now += 1
        await cache.use(D)  # B leaves slot 1, and A host memory
        assert of(cache, Evicted) == [
            Evicted(A, Tier.GPU, EvictionReason.CAPACITY, 41.0, room_for=C, slot=0),
            Evicted(A, Tier.HOST, EvictionReason.CAPACITY, 42.0, room_for=D),
            Evicted(B, Tier.GPU, EvictionReason.CAPACITY, 42.0, room_for=D, slot=1),
        ]


async def test_idle_time_begins_when_the_lease_is_released() -> None:
    clock = Clock()
    async with running(Cache(slots=1, host=2, clock=clock)) as cache:
        async with cache.controller.lease(A):
            clock.now += 30
            assert cache.controller.snapshot().gpu[0].idle_seconds == 0
        clock.now += 5
        assert cache.controller.snapshot().gpu[0].idle_seconds == 5
        await cache.controller.evict(A)
        assert {(e.tier, e.idle_seconds, e.room_for) for e in of(cache, Evicted)} == {
            (Tier.GPU, 5.0, None),
            (Tier.HOST, 5.0, None),
        }


async def test_the_snapshot_contains_the_slot() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        for version in (A, B, C):
            await cache.use(version)
        await until(lambda: len(cache.observer.moves) == 6)
        now = cache.controller.snapshot()
        assert {r.version.id: r.slot for r in now.host} == {A.id: None, B.id: 1, C.id: 0}


async def test_a_drain_names_the_adapter_that_it_is_for() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=0.02)
    async with running(Cache(slots=1, host=2, limits=limits)) as cache:
        async with cache.controller.lease(A):
            cold = asyncio.create_task(cache.use(B))
            await until(lambda: of(cache, Drained))
        await cold
        assert of(cache, Drained) == [Drained(A, room_for=B, slot=0)]


async def test_refusals_are_reported_with_their_error() -> None:
    limits = AdmissionLimits(slot_timeout_seconds=0.02, max_waiting_per_adapter=1)
    async with running(Cache(slots=1, host=2, limits=limits)) as cache:
        cache.backend.broken.add(D.id)
        with pytest.raises(AdapterLoadFailed):
            await cache.use(D)
        async with cache.controller.lease(A):
            late = asyncio.create_task(cache.use(B))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await cache.use(B)
            with pytest.raises(SlotWaitTimeout):
                await late
        refused = [(e.version, type(e.error)) for e in of(cache, Refused)]
        assert refused == [(D, AdapterLoadFailed), (B, QueueFull), (B, SlotWaitTimeout)]
        failed = of(cache, LoadFailed)
        assert [(e.version, e.transition) for e in failed] == [(D, Transition.DISK_TO_HOST)]


async def test_a_cancelled_request_is_not_refused() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        async with cache.controller.lease(A):
            leaving = asyncio.create_task(cache.use(B))
            await settle()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        assert of(cache, Refused) == []


async def test_a_pin_is_reported_once_it_holds() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        await cache.controller.pin(A, Tier.GPU)
        cache.controller.unpin(A.id)
        assert cache.observer.events[-2:] == [Pinned(A, Tier.GPU), Unpinned(A, Tier.GPU)]
        assert of(cache, LookedUp) == []  # it was not for a client's request


async def test_drift_includes_ids_unknown_to_the_controller() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await until(lambda: len(cache.observer.moves) == 2)
        stranger = VersionId(99)
        cache.backend.host[stranger] = cache.backend.host.pop(A.id)
        cache.backend.gpu.clear()
        await cache.controller.reconcile()
        assert of(cache, Drifted) == [Drifted([A.id, stranger], [A])]


async def test_what_was_resident_in_a_dead_engine_is_missed_because_of_the_restart() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await until(lambda: cache.controller._executor.is_idle)
        gone = EngineUnavailable("it died")
        await cache.controller.on_engine_lost(gone)
        with pytest.raises(EngineUnavailable):
            await cache.use(A)
        cache.backend.gpu.clear()
        cache.backend.host.clear()
        cache.controller.on_engine_ready()
        await cache.use(A)
        await cache.controller.evict(A)
        await cache.use(A)
        assert (of(cache, EngineLost), of(cache, EngineReady)) == (
            [EngineLost(gone)],
            [EngineReady()],
        )
        assert [cause for _, cause in cache.observer.lookups] == [
            MissCause.COLD,
            MissCause.RESTART,
            MissCause.EVICTED,
        ]


async def test_what_was_resident_in_an_earlier_process_is_missed_because_of_the_restart() -> None:
    async with running(Cache()) as cache:
        cache.controller.record_loss(A.id)
        await cache.use(A)
        assert cache.observer.lookups == [(CacheOutcome.MISS, MissCause.RESTART)]
