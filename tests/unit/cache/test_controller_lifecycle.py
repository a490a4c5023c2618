"""The controller when engines die or drift, when operators force evictions, and at its limits."""

import asyncio
import itertools

import pytest

from engine.errors import (
    AdapterInUse,
    AdapterLoadFailed,
    AdapterPinned,
    AdapterTooLarge,
    EngineUnavailable,
    PinBytesExceeded,
    QueueFull,
)
from engine.operations import control
from engine.ports import Loaded
from engine.types import (
    AdapterVersion,
    AdmissionLimits,
    CacheOutcome,
    EvictionReason,
    LoadFailure,
    Tier,
    VersionId,
)
from tests.support.cache.controller_harness import (
    UNTIMED_SECONDS,
    A,
    B,
    C,
    Cache,
    D,
    E,
    UnreliableBackend,
    running,
    settle,
    until,
)

GONE = EngineUnavailable("it has died", retry_after_seconds=20)


# ---- an engine that goes, and the next one ------------------------------------------------


def new_engine(cache: Cache) -> None:
    """It holds nothing."""
    cache.backend.gpu.clear()
    cache.backend.host.clear()
    cache.backend._staged.clear()


def slots(cache: Cache) -> list[int | None]:
    return [resident.slot for resident in cache.controller.snapshot().gpu]


async def test_no_request_waits_for_a_dead_engine() -> None:
    async with running(Cache(slots=1, host=1)) as cache:
        async with cache.controller.lease(A):
            waiting = asyncio.create_task(cache.use(B))
            await until(lambda: len(cache.policy.wait_queue) == 1)
            await cache.controller.on_engine_lost(GONE)
            with pytest.raises(EngineUnavailable) as error:
                await waiting
            assert error.value.retry_after_seconds == 20
            with pytest.raises(EngineUnavailable):
                await cache.use(C)
            assert cache.controller.unavailable is GONE
        new_engine(cache)
        cache.controller.on_engine_ready()
        assert cache.controller.unavailable is None
        assert await cache.use(A) is CacheOutcome.MISS, "nothing is resident in the new one"
        cache.check()


async def test_no_eviction_waits_for_a_dead_engine() -> None:
    async with running(Cache()) as cache, cache.controller.lease(A):
        evicting = asyncio.create_task(cache.controller.evict(A, wait=True))
        await settle()
        await cache.controller.on_engine_lost(GONE)
        assert await asyncio.wait_for(evicting, 20)


async def test_the_release_of_a_dead_engines_lease_does_not_reach_the_new_engine() -> None:
    """Its client may still be reading the last bytes."""
    async with running(Cache(slots=1, host=2)) as cache:
        old = cache.controller.lease(A)
        await old.__aenter__()
        await cache.controller.on_engine_lost(GONE)
        new_engine(cache)
        cache.controller.on_engine_ready()
        async with cache.controller.lease(A):
            await old.__aexit__(None, None, None)
            assert cache.policy.lease_count(A.id) == 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(cache.use(B), 0.02)
        cache.check()


async def test_loads_and_moves_of_a_dead_engine_are_dropped() -> None:
    async with running(Cache(load_seconds=0.02)) as cache:
        cache.backend.guaranteed = False
        cache.backend.round_trip = asyncio.Event()
        moving = asyncio.create_task(cache.use(A))
        await until(lambda: A.id in cache.backend.host)
        cache.controller.prefetch(B)
        pinning = asyncio.create_task(cache.controller.pin(C, Tier.HOST))
        await asyncio.sleep(0)
        await cache.controller.on_engine_lost(GONE)
        for task in (moving, pinning):
            with pytest.raises(EngineUnavailable):
                await task
        new_engine(cache)
        cache.backend.round_trip = None
        cache.controller.on_engine_ready()
        await settle()
        assert cache.policy.residency().host == ()
        assert await cache.use(A) is CacheOutcome.MISS
        cache.check()
        del cache.backend.gpu[A.id]
        assert await drifted(cache) == {A.id}, "what moved then does not count as moving for ever"


async def test_pins_stay_when_an_engine_is_replaced() -> None:
    async with running(Cache()) as cache:
        await cache.controller.pin(A, Tier.GPU)
        await until(lambda: slots(cache) == [0])
        await cache.controller.on_engine_lost(GONE)
        new_engine(cache)
        cache.controller.on_engine_ready()
        assert cache.controller.is_pinned(A.id)
        cache.backend.round_trip = asyncio.Event()
        await cache.controller.pin(A, Tier.GPU)
        assert slots(cache) == [None], "the new engine has not reported it yet"
        cache.backend.round_trip.set()
        for version in (B, C, D):
            await cache.use(version)
        assert A.id in cache.backend.gpu
        cache.check()


# ---- what the engine holds otherwise ------------------------------------------------------


async def drifted(cache: Cache) -> set[VersionId]:
    await until(lambda: cache.controller._executor.is_idle)
    cache.observer.drift.clear()
    await cache.controller.reconcile()
    return set(cache.observer.drift)


async def test_what_the_engine_lost_is_loaded_again_on_request() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.use(B)
        del cache.backend.gpu[A.id], cache.backend.gpu[B.id], cache.backend.host[A.id]
        assert await drifted(cache) == {A.id, B.id}
        assert await drifted(cache) == set()
        cache.check()
        assert await cache.use(B) is CacheOutcome.HOST_HIT
        assert await cache.use(A) is CacheOutcome.MISS
        cache.check()


async def test_what_is_unknown_to_the_controller_is_evicted_from_the_engine() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        stranger = AdapterVersion(VersionId(99), "stranger", 1, "f" * 64, "/x", 8, 1)
        cache.backend.host[stranger.id] = stranger
        cache.backend.gpu[stranger.id] = 0
        assert await drifted(cache) == {stranger.id}
        await until(lambda: stranger.id not in cache.backend.host)
        assert await drifted(cache) == set()
        cache.check()


async def test_an_engine_that_is_being_emptied_is_not_repaired() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.controller.on_engine_lost(GONE)
        await cache.controller.reconcile()
        assert cache.observer.drift == []
        assert cache.policy.residency().host == ()


async def test_a_slot_that_was_filled_without_the_controller_is_freed() -> None:
    async with running(Cache(slots=1)) as cache:
        await cache.use(A)
        await cache.use(B)  # A is in host memory only
        cache.backend.gpu = {A.id: 0}
        assert await drifted(cache) == {A.id, B.id}
        assert await drifted(cache) == set()
        assert cache.backend.gpu == {}
        assert await cache.use(B) is CacheOutcome.HOST_HIT
        cache.check()


async def test_a_leased_adapter_is_kept_whatever_the_engine_reports() -> None:
    async with running(Cache()) as cache:
        async with cache.controller.lease(A):
            await until(lambda: cache.controller._executor.is_idle)
            del cache.backend.gpu[A.id]
            assert await drifted(cache) == {A.id}
            assert cache.policy.lease_count(A.id) == 1
        assert await drifted(cache) == {A.id}
        assert await cache.use(A) is CacheOutcome.HOST_HIT


async def test_drift_is_repaired_while_another_load_hangs() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await until(lambda: cache.controller._executor.is_idle)
        cache.backend.load_seconds = 60
        waiting = asyncio.create_task(cache.use(B))
        await until(lambda: B.id in cache.backend.loads)
        del cache.backend.gpu[A.id], cache.backend.host[A.id]
        assert await drifted(cache) == {A.id}
        assert await drifted(cache) == set()
        cache.backend.load_seconds = 0
        assert await cache.use(A) is CacheOutcome.MISS
        waiting.cancel()


async def test_loads_that_hang_leave_their_places_to_others() -> None:
    """As many as may be loaded at a time: the next one comes from a disk that answers."""
    async with running(Cache()) as cache:
        cache.controller._executor._loader._slow_seconds = 0.01
        cache.backend.may_load.clear()
        hung = [asyncio.create_task(cache.use(each)) for each in (A, B)]
        await until(lambda: cache.backend.loads == [A.id, B.id])
        cache.backend.may_load = asyncio.Event()
        cache.backend.may_load.set()
        assert await cache.use(C) is CacheOutcome.MISS
        assert not any(each.done() for each in hung)
        for each in hung:
            each.cancel()
        await asyncio.gather(*hung, return_exceptions=True)


async def test_drift_is_repaired_under_steady_traffic() -> None:
    """Others move during every comparison."""
    async with running(Cache()) as cache:
        await cache.use(A)
        others = itertools.cycle((B, C, D, E))
        cache.backend.during_readback = lambda: cache.use(next(others))
        await cache.controller.reconcile()
        await until(lambda: cache.controller._executor.is_idle)
        stranger = AdapterVersion(VersionId(99), "stranger", 1, "f" * 64, "/x", 8, 1)
        cache.backend.host_capacity += 1
        cache.backend.host[stranger.id] = stranger
        await cache.controller.reconcile()
        await until(lambda: cache.controller._executor.is_idle)
        assert cache.observer.drift == [stranger.id]
        for _ in range(5):
            await cache.controller.reconcile()
        assert cache.observer.drift == [stranger.id]
        await until(lambda: cache.controller._executor.is_idle)
        cache.check()


async def test_what_only_some_ranks_hold_is_evicted_from_all_and_loaded_again() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.use(B)
        await until(lambda: cache.controller._executor.is_idle)
        cache.backend.partial = {A.id}
        cache.observer.drift.clear()
        await cache.controller.reconcile()
        assert cache.observer.drift == [A.id]
        await until(lambda: A.id not in cache.backend.host)
        cache.backend.partial = set()
        assert await drifted(cache) == set()
        assert await cache.use(A) is CacheOutcome.MISS
        cache.check()


async def test_what_only_some_ranks_hold_stays_while_it_is_leased() -> None:
    async with running(Cache()) as cache:
        async with cache.controller.lease(A):
            cache.backend.partial = {A.id}
            assert await drifted(cache) == {A.id}
            assert A.id in cache.backend.host
            cache.backend.partial = set()
        cache.check()


# ---- operators who insist -----------------------------------------------------------------


async def test_no_request_is_admitted_during_an_eviction_that_waits() -> None:
    async with running(Cache()) as cache:
        async with cache.controller.lease(A):
            evicting = asyncio.create_task(cache.controller.evict(A, wait=True))
            await asyncio.sleep(0)
            later = asyncio.create_task(cache.use(A))
            await settle()
            assert not evicting.done()
            assert not later.done()
        assert await evicting is True
        assert await later is CacheOutcome.MISS
        assert (A.id, Tier.HOST, EvictionReason.REQUESTED) in cache.observer.evictions
        cache.check()


async def test_an_eviction_continues_when_its_caller_is_cancelled() -> None:
    async with running(Cache()) as cache:
        async with cache.controller.lease(A):
            evicting = asyncio.create_task(cache.controller.evict(A, wait=True))
            await asyncio.sleep(0)
            evicting.cancel()
        await until(lambda: A.id not in cache.backend.host)
        cache.check()


async def test_force_ends_the_requests_that_hold_it_and_no_others() -> None:
    async with running(Cache()) as cache:
        ended: list[str] = []

        async def stream(version: AdapterVersion, name: str) -> None:
            revoked = asyncio.Event()
            async with cache.controller.lease(version, revoked.set):
                await revoked.wait()
            ended.append(name)

        streams = [asyncio.create_task(stream(A, name)) for name in ("one", "two")]
        other = asyncio.create_task(stream(B, "other"))
        await until(
            lambda: cache.policy.lease_count(A.id) == 2 and cache.policy.lease_count(B.id) == 1
        )
        assert await cache.controller.evict(A, force=True)
        await asyncio.gather(*streams)
        assert ended == ["one", "two"]
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_only_force_ends_requests_and_none_that_has_ended_before() -> None:
    async with running(Cache()) as cache:
        revoked: list[str] = []
        async with cache.controller.lease(A, lambda: revoked.append("before")):
            pass
        async with cache.controller.lease(A, lambda: revoked.append("running")):
            waiting = asyncio.create_task(cache.controller.evict(A, wait=True))
            await settle()
            assert revoked == []
            forced = asyncio.create_task(cache.controller.evict(A, force=True))
            await settle()
            assert revoked == ["running"]
        assert all(await asyncio.wait_for(asyncio.gather(waiting, forced), 20))
        async with cache.controller.lease(A, lambda: revoked.append("after")):
            assert revoked == ["running"]
        cache.check()


@pytest.mark.parametrize("force", [True, False])
async def test_an_eviction_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    for name in ("FORCED_EVICTION_SECONDS", "EVICTION_SECONDS"):
        monkeypatch.setattr(control, name, 0.05)
    async with running(Cache()) as cache:
        async with cache.controller.lease(A):  # which nobody can revoke
            with pytest.raises(AdapterInUse, match="still in use"):
                await control.evict_in_time(cache.controller, A, wait=not force, force=force)
        await until(lambda: A.id not in cache.backend.host)
        cache.check()


async def test_force_does_not_evict_a_pinned_adapter() -> None:
    async with running(Cache()) as cache:
        await cache.controller.pin(A, Tier.HOST)
        with pytest.raises(AdapterPinned):
            await cache.controller.evict(A, force=True)


# ---- limits -------------------------------------------------------------------------------


async def test_one_adapter_does_not_fill_the_wait_queue() -> None:
    limits = AdmissionLimits(
        max_slot_wait_seconds=UNTIMED_SECONDS, max_waiting=5, max_waiting_per_adapter=2
    )
    async with running(Cache(slots=1, host=2, limits=limits)) as cache:
        async with cache.controller.lease(A):
            waiting = [asyncio.create_task(cache.use(B)) for _ in range(2)]
            await until(lambda: len(cache.policy.wait_queue) == 2)
            with pytest.raises(QueueFull, match="2 requests of adapter a2") as full:
                await cache.use(B)
            assert full.value.status == 429
            assert full.value.retry_after_seconds is not None
            waiting += [asyncio.create_task(cache.use(C)) for _ in range(2)]
            await until(lambda: len(cache.policy.wait_queue) == 4)
            waiting.append(asyncio.create_task(cache.use(D)))
            await until(lambda: len(cache.policy.wait_queue) == 5)
            with pytest.raises(QueueFull, match="5 requests already"):
                await cache.use(D)
        await asyncio.gather(*waiting)
        cache.check()


async def test_refused_requests_learn_how_fast_the_queue_moves() -> None:
    now = 0.0
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS, max_waiting=1)
    async with running(Cache(slots=1, host=2, limits=limits, clock=lambda: now)) as cache:
        for version in (A, B, C, A):  # one grant in three seconds
            await cache.use(version)
            now += 3
        async with cache.controller.lease(A):
            waiting = asyncio.create_task(cache.use(B))
            await until(lambda: len(cache.policy.wait_queue) == 1)
            with pytest.raises(QueueFull) as full:
                await cache.use(C)
            assert full.value.retry_after_seconds == 3
        await waiting


class LargeOnceLoaded(UnreliableBackend):
    async def load(self, version: AdapterVersion) -> Loaded:
        loaded = await super().load(version)
        return Loaded(loaded.host_bytes * 10, loaded.guaranteed)


async def test_the_host_tier_stays_within_its_bytes() -> None:
    async with running(Cache(slots=2, host=4, host_bytes=250)) as cache:
        for version in (A, B, C):  # of 100 bytes each
            await cache.use(version)
        assert list(cache.backend.host) == [B.id, C.id]
        cache.check()


async def test_an_adapter_that_can_never_fit_is_refused_before_it_is_loaded() -> None:
    async with running(Cache(host_bytes=99)) as cache:
        with pytest.raises(AdapterTooLarge, match="takes 100 bytes, and the host tier has 99"):
            await cache.use(A)
        with pytest.raises(AdapterTooLarge):
            cache.controller.prefetch(A)
        with pytest.raises(AdapterTooLarge):
            await cache.controller.pin(A, Tier.HOST)
        assert cache.backend.loads == []
        cache.check()


async def test_an_adapter_that_turns_out_too_large_leaves_nothing_staged() -> None:
    cache = Cache(host_bytes=500)
    cache.backend.__class__ = LargeOnceLoaded
    async with running(cache):
        with pytest.raises(AdapterTooLarge, match="takes 1000 bytes"):
            await cache.use(A)
        assert cache.backend._staged == {}
        cache.check()


async def test_pins_leave_the_bytes_that_the_largest_other_adapter_needs() -> None:
    async with running(Cache(slots=3, host=6, host_bytes=350)) as cache:
        await cache.use(C)
        await cache.controller.pin(A, Tier.HOST)
        await cache.controller.pin(B, Tier.HOST)
        with pytest.raises(PinBytesExceeded):
            await cache.controller.pin(D, Tier.HOST)
        assert await cache.use(C) is not None
        cache.check()


# ---- what observers hear ------------------------------------------------------------------


async def test_fallbacks_and_failures_are_reported_with_their_cause() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        await cache.use(A)
        assert cache.observer.fallbacks == [A.id]
        cache.backend.load_breaks = AdapterLoadFailed(B.reference, "changed", LoadFailure.FILES)
        with pytest.raises(AdapterLoadFailed) as error:
            await cache.use(B)
        assert error.value.retry_after_seconds
        assert cache.observer.failures[-1][0] == B.id
