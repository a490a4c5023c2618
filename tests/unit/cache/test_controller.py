"""The controller on the fake backend: single flight, leases, fairness, pins, failures."""

import asyncio
import random

import pytest

from engine.errors import (
    AdapterInUse,
    AdapterLoadFailed,
    AdapterPinned,
    EngineDied,
    EngineUnavailable,
    EvictionTimeout,
    HostWaitTimeout,
    NotPinned,
    PinBudgetExceeded,
    QueueFull,
    SlotWaitTimeout,
)
from engine.types import (
    AdapterVersion,
    AdmissionLimits,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
)
from tests.support.cache.controller_harness import (
    UNTIMED_SECONDS,
    A,
    B,
    C,
    Cache,
    D,
    E,
    adapter,
    running,
    settle,
    until,
)


async def test_outcomes_and_evictions_of_a_scripted_sequence() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        outcomes = [await cache.use(version) for version in (A, A, B, C, A, D, B)]
        assert outcomes == [
            CacheOutcome.MISS,  # A
            CacheOutcome.GPU_HIT,  # A
            CacheOutcome.MISS,  # B
            CacheOutcome.MISS,  # C takes A's slot, A stays in host memory
            CacheOutcome.HOST_HIT,  # A takes B's slot
            CacheOutcome.MISS,  # D: B is the oldest in host memory, in no slot
            CacheOutcome.MISS,  # B again
        ]
        assert [cause for outcome, cause in cache.observer.lookups if outcome == "miss"] == [
            MissCause.COLD,
            MissCause.COLD,
            MissCause.COLD,
            MissCause.COLD,
            MissCause.EVICTED,
        ]
        assert cache.observer.evictions == [
            (A.id, Tier.GPU, EvictionReason.CAPACITY),
            (B.id, Tier.GPU, EvictionReason.CAPACITY),
            (B.id, Tier.HOST, EvictionReason.CAPACITY),
            (C.id, Tier.GPU, EvictionReason.CAPACITY),
            (C.id, Tier.HOST, EvictionReason.CAPACITY),
            (A.id, Tier.GPU, EvictionReason.CAPACITY),
        ]
        cache.check()


async def test_many_requests_for_a_cold_adapter_share_one_load() -> None:
    async with running(Cache(load_seconds=0.02)) as cache:
        outcomes = await asyncio.gather(*(cache.use(A) for _ in range(20)))
        assert cache.backend.loads == [A.id]
        assert set(outcomes) == {CacheOutcome.MISS}
        cache.check()


async def test_a_leased_adapter_is_never_evicted() -> None:
    async with running(Cache(slots=1, host=1)) as cache:
        async with cache.controller.lease(A):
            waiting = asyncio.create_task(cache.use(B))
            await until(lambda: cache.backend.loads == [A.id, B.id])
            await settle()
            assert list(cache.backend.gpu) == [A.id]
            assert not waiting.done()
        assert await waiting is CacheOutcome.MISS
        assert list(cache.backend.gpu) == [B.id]
        cache.check()


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        async with cache.controller.lease(A):
            waiting = asyncio.create_task(cache.use(B))
            await until(lambda: B.id in cache.backend.host)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await cache.use(A) is CacheOutcome.GPU_HIT
        cache.check()


async def test_the_next_waiter_is_admitted_immediately_after_a_cancelled_one() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        async with cache.controller.lease(A):
            leaving = asyncio.create_task(cache.use(B))
            await until(lambda: B.id in cache.backend.host)
            waiting = asyncio.create_task(cache.use(C))
            await until(lambda: C.id in cache.backend.loads)
            leaving.cancel()
            await until(lambda: C.id in cache.backend.host)
        await waiting
        cache.check()


@pytest.mark.parametrize("moment", ["just before its grant", "just after its grant"])
async def test_a_waiter_cancelled_at_its_grant_leaves_no_lease(moment: str) -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        task = asyncio.create_task(cache.use(A))
        loop = asyncio.get_running_loop()
        leave = (
            task.cancel
            if moment == "just before its grant"
            else (
                lambda: loop.call_soon(
                    task.cancel
                )  # runs before the task that is woken by the grant
            )
        )
        cache.observer.when_in_slot = lambda version: leave()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (not cache.observer.lookups) == (moment == "just before its grant")
        cache.check()


@pytest.mark.parametrize("guaranteed", [True, False])
@pytest.mark.parametrize("iterations", range(8))
async def test_cancelling_at_any_iteration_of_the_loop_leaks_nothing(
    iterations: int, guaranteed: bool
) -> None:
    async with running(Cache(slots=1, host=1)) as cache:
        cache.backend.guaranteed = guaranteed
        task = asyncio.create_task(cache.use(A))
        for _ in range(iterations):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await cache.use(B) is CacheOutcome.MISS
        await until(lambda: not cache.policy.in_transit())
        cache.check()


async def test_a_hit_that_is_cancelled_before_its_moves_are_sent_leaves_no_lease() -> None:
    async with running(Cache()) as cache:
        lease = cache.controller.lease(A)
        entering = lease.__aenter__()
        refused: list[BaseException] = []

        def come_and_go() -> None:
            """At the first grant, while its moves are being sent."""
            try:
                entering.send(None)
                assert cache.policy.lease_count(A.id) == 2
                entering.throw(asyncio.CancelledError())
            except BaseException as error:  # what it ends with is looked at below
                refused.append(error)

        cache.observer.when_looked_up = come_and_go
        async with cache.controller.lease(A):
            assert [type(error) for error in refused] == [asyncio.CancelledError]
            assert cache.policy.lease_count(A.id) == 1
        cache.check()


async def test_an_error_in_the_block_releases_the_lease() -> None:
    async with running(Cache()) as cache:
        with pytest.raises(ZeroDivisionError):
            async with cache.controller.lease(A):
                _ = 1 / 0
        cache.check()


async def test_a_failed_load_fails_its_waiters_and_no_others() -> None:
    async with running(Cache(load_seconds=0.01)) as cache:
        cache.backend.broken.add(A.id)
        results = await asyncio.gather(
            cache.use(A), cache.use(A), cache.use(B), return_exceptions=True
        )
        assert [type(r) for r in results[:2]] == [AdapterLoadFailed, AdapterLoadFailed]
        assert results[2] is CacheOutcome.MISS
        assert cache.observer.failures == [(A.id, Transition.DISK_TO_HOST)]
        cache.backend.broken.clear()
        assert await cache.use(A) is CacheOutcome.MISS
        cache.check()


async def test_a_failed_load_reaches_those_behind_one_who_leaves_at_that_moment() -> None:
    for iterations in range(8):
        async with running(Cache()) as cache:
            cache.backend.broken.add(A.id)
            cache.backend.may_load.clear()
            leaving, staying = (asyncio.create_task(cache.use(A)) for _ in range(2))
            await settle()
            cache.backend.may_load.set()
            for _ in range(iterations):
                await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(AdapterLoadFailed):
                await asyncio.wait_for(staying, 20)
            await asyncio.gather(leaving, return_exceptions=True)


async def test_a_bug_in_the_backend_fails_the_requests_and_nothing_else() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        cache.backend.load_breaks = ZeroDivisionError()
        with pytest.raises(AdapterLoadFailed, match="ZeroDivisionError"):
            await asyncio.wait_for(cache.use(A), 20)
        cache.backend.load_breaks = None
        for error in (ZeroDivisionError("a bug"), EngineUnavailable("gone")):
            cache.backend.apply_breaks = error
            with pytest.raises(AdapterLoadFailed):
                await asyncio.wait_for(cache.use(A), 20)
        cache.backend.apply_breaks = None
        assert await asyncio.wait_for(cache.use(A), 20) is CacheOutcome.MISS
        cache.check()


async def test_an_eviction_from_host_memory_is_the_reason_for_leaving_the_slot() -> None:
    async with running(Cache(slots=1, host=1)) as cache:
        await cache.use(A)
        await cache.use(B)
        assert cache.observer.evictions == [
            (A.id, Tier.HOST, EvictionReason.CAPACITY),
            (A.id, Tier.GPU, EvictionReason.HOST_EVICTED),
        ]


async def test_an_eviction_that_fails_counts_as_drift() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        del cache.backend.host[A.id]
        await cache.controller.evict(A)
        await until(lambda: cache.observer.drift == [A.id])


async def test_hits_count_requests_that_found_it_in_memory() -> None:
    async with running(Cache()) as cache:
        for _ in range(3):
            await cache.use(A)
        assert cache.controller.snapshot().host[0].hits == 2


async def test_a_failed_copy_leaves_the_adapter_in_host_memory() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        cache.backend.refuses_slot.add(A.id)
        with pytest.raises(AdapterLoadFailed):
            await cache.use(A)
        assert cache.observer.failures == [(A.id, Transition.HOST_TO_GPU)]
        cache.backend.refuses_slot.clear()
        assert await cache.use(A) is CacheOutcome.HOST_HIT
        cache.check()


async def test_a_request_follows_guaranteed_moves_without_waiting_for_their_results() -> None:
    async with running(Cache()) as cache:
        cache.backend.round_trip = asyncio.Event()
        async with cache.controller.lease(A):
            assert list(cache.backend.gpu) == [A.id], "the moves come first anyway"
            assert not cache.observer.moves
        cache.backend.round_trip.set()
        await until(lambda: len(cache.observer.moves) == 2)


async def test_a_request_waits_for_the_results_of_moves_that_can_fail() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        cache.backend.round_trip = asyncio.Event()
        using = asyncio.create_task(cache.use(A))
        await until(lambda: A.id in cache.backend.host)
        await settle()
        assert not using.done()
        cache.backend.round_trip.set()
        assert await using is CacheOutcome.MISS
        cache.check()


async def test_a_guaranteed_move_that_fails_anyway_counts_as_drift() -> None:
    async with running(Cache()) as cache:
        cache.backend.refuses_slot.add(A.id)
        assert await cache.use(A) is CacheOutcome.MISS
        await until(lambda: cache.observer.drift == [A.id])
        assert cache.observer.failures == []


async def test_what_a_dead_engine_did_not_do_is_no_drift() -> None:
    async with running(Cache()) as cache:
        cache.backend.apply_breaks = EngineDied("it has died")
        assert await cache.use(A) is CacheOutcome.MISS
        await until(lambda: cache.controller._executor.is_idle)
        assert cache.observer.drift == []


async def test_a_cold_adapter_gets_a_slot_while_hot_ones_never_pause() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=0.05)
    async with running(Cache(slots=1, host=2, limits=limits)) as cache:
        stop = asyncio.Event()

        async def overlapping_streams(offset: float) -> int:
            await asyncio.sleep(offset)
            served = 0
            while not stop.is_set():
                async with cache.controller.lease(A):
                    await asyncio.sleep(0.02)
                served += 1
            return served

        hot = [asyncio.create_task(overlapping_streams(n * 0.005)) for n in range(4)]
        await until(lambda: A.id in cache.backend.gpu)
        async with asyncio.timeout(20):
            assert await cache.use(B) is CacheOutcome.MISS
        stop.set()
        assert all(served > 1 for served in await asyncio.gather(*hot))
        cache.check()


async def test_a_cold_adapter_gets_a_slot_if_hot_ones_fill_host_memory() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=0.02)
    async with running(Cache(slots=1, host=1, limits=limits)) as cache:
        async with cache.controller.lease(A):
            cold = asyncio.create_task(cache.use(B))
            await until(lambda: cache.backend.loads == [A.id, B.id])
            await until(lambda: cache.policy.is_leaving(A.id))
            held_back = asyncio.create_task(cache.use(A))
            await settle()
            assert not held_back.done()
        assert await cold is CacheOutcome.MISS
        assert await held_back is CacheOutcome.MISS
        assert cache.observer.lookups[-1] == (CacheOutcome.MISS, MissCause.EVICTED)
        cache.check()


async def test_no_adapter_drains_before_the_patience_has_run_out() -> None:
    now = 0.0
    limits = AdmissionLimits(max_slot_wait_seconds=0.02)
    cache = Cache(slots=1, host=2, limits=limits, clock=lambda: now)
    async with running(cache):
        async with cache.controller.lease(A):
            cold = asyncio.create_task(cache.use(B))
            await until(lambda: B.id in cache.backend.host)
            now = 0.017
            await asyncio.sleep(0.03)  # the timer fires several times
            assert await cache.use(A) is CacheOutcome.GPU_HIT
            now = 0.021
            await until(lambda: cache.policy.is_leaving(A.id))
            held_back = asyncio.create_task(cache.use(A))
            await settle()
            assert not held_back.done()
            now = 5.0
        assert await cold is CacheOutcome.MISS
        assert await held_back is CacheOutcome.HOST_HIT
        assert cache.observer.waits[2] == 5.0
        cache.check()


async def test_a_request_that_gets_no_slot_times_out() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=10, slot_timeout_seconds=0.05)
    async with running(Cache(slots=1, host=2, limits=limits)) as cache:
        async with cache.controller.lease(A):
            with pytest.raises(SlotWaitTimeout):
                await asyncio.wait_for(cache.use(B), 20)
            assert len(cache.policy.wait_queue) == 0
        assert await cache.use(B) is CacheOutcome.HOST_HIT
        cache.check()


async def test_the_wait_queue_is_limited() -> None:
    async with running(Cache(slots=1, host=2, limits=AdmissionLimits(max_waiting=2))) as cache:
        async with cache.controller.lease(A):
            waiting = [asyncio.create_task(cache.use(B)) for _ in range(2)]
            await settle()
            with pytest.raises(QueueFull):
                await cache.use(C)
        await asyncio.gather(*waiting)
        cache.check()


async def test_a_pinned_adapter_survives_a_scan() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        await cache.controller.pin(A, Tier.GPU)
        for version in (B, C, D, E, B, C):
            await cache.use(version)
        assert await cache.use(A) is CacheOutcome.GPU_HIT
        assert cache.controller.unpin(A.id) is Tier.GPU
        for version in (B, C, D):
            await cache.use(version)
        assert await cache.use(A) is CacheOutcome.MISS
        cache.check()


async def test_pinning_in_host_memory_takes_no_slot() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        await cache.controller.pin(A, Tier.HOST)
        assert list(cache.backend.host) == [A.id]
        assert not cache.backend.gpu
        for version in (B, C, D):
            await cache.use(version)
        assert await cache.use(A) is CacheOutcome.HOST_HIT
        cache.check()


async def test_the_pin_budget_always_leaves_a_place() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        await cache.controller.pin(A, Tier.GPU)
        with pytest.raises(PinBudgetExceeded):
            await cache.controller.pin(B, Tier.GPU)
        await cache.controller.pin(B, Tier.HOST)
        with pytest.raises(PinBudgetExceeded):
            await cache.controller.pin(C, Tier.HOST)
        assert await cache.use(D) is CacheOutcome.MISS
        cache.check()


async def test_a_pin_whose_load_fails_is_no_pin() -> None:
    async with running(Cache()) as cache:
        cache.backend.broken.update({A.id, B.id})
        with pytest.raises(AdapterLoadFailed):
            await cache.controller.pin(A, Tier.GPU)
        with pytest.raises(AdapterLoadFailed):
            await cache.controller.pin(B, Tier.HOST)
        for version in (A, B):
            with pytest.raises(NotPinned):
                cache.controller.unpin(version.id)
        assert cache.observer.lookups == []
        cache.check()


async def test_a_pin_waits_for_an_adapter_that_is_just_entering_host_memory() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        cache.controller.prefetch(A)
        while A.id not in cache.policy.residency().host:
            await asyncio.sleep(0)
        assert not cache.backend.host
        await cache.controller.pin(A, Tier.HOST)
        assert list(cache.backend.host) == [A.id]


@pytest.mark.parametrize("first", Tier)
async def test_pins_that_share_a_failed_load_all_fail_with_its_error(first: Tier) -> None:
    async with running(Cache(load_seconds=0.01)) as cache:
        cache.backend.broken.add(A.id)
        pins = [cache.controller.pin(A, tier) for tier in (first, Tier.HOST, Tier.HOST, first)]
        results = await asyncio.gather(*pins, return_exceptions=True)
        assert [type(r) for r in results] == [AdapterLoadFailed] * 4
        assert A.id not in cache.policy.pins, "an adapter on disk has no pin"
        assert cache.backend.loads == [A.id]
        cache.check()


async def test_a_failed_pin_restores_no_pin_of_an_adapter_on_disk() -> None:
    async with running(Cache(load_seconds=0.01)) as cache:
        cache.backend.broken.add(A.id)
        pins = [cache.controller.pin(A, tier) for tier in (Tier.GPU, Tier.HOST)]
        results = await asyncio.gather(*pins, return_exceptions=True)
        assert [type(result) for result in results] == [AdapterLoadFailed] * 2
        assert A.id not in cache.policy.pins


async def test_a_pin_that_can_not_move_up_stays_where_it_was() -> None:
    async with running(Cache()) as cache:
        cache.backend.guaranteed = False
        await cache.controller.pin(A, Tier.HOST)
        cache.backend.refuses_slot.add(A.id)
        with pytest.raises(AdapterLoadFailed):
            await cache.controller.pin(A, Tier.GPU)
        assert cache.controller.unpin(A.id) is Tier.HOST
        cache.check()


async def test_a_pin_that_is_given_up_leaves_one_in_the_other_tier_as_it_is() -> None:
    async with running(Cache()) as cache:
        cache.backend.may_load.clear()
        given_up = asyncio.create_task(cache.controller.pin(A, Tier.GPU))
        await settle()
        staying = asyncio.create_task(cache.controller.pin(A, Tier.HOST))
        await settle()
        given_up.cancel()
        await settle()
        assert cache.policy.pins.tier_of(A.id) is Tier.HOST
        cache.backend.may_load.set()
        await asyncio.wait_for(staying, 20)
        assert cache.controller.unpin(A.id) is Tier.HOST


async def test_operators_pins_do_not_count_as_requests_that_end_soon() -> None:
    """By how long requests last it is decided when a hot adapter drains."""
    now = 0.0
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS)
    async with running(Cache(limits=limits, clock=lambda: now)) as cache:
        async with cache.controller.lease(A):
            now = 600.0
        patience = cache.controller._admission.patience_seconds()
        for _ in range(20):
            await cache.controller.pin(B, Tier.GPU)
            cache.controller.unpin(B.id)
        assert cache.controller._admission.patience_seconds() == patience


async def test_after_an_unpin_the_next_waiter_is_admitted_immediately() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        await cache.controller.pin(A, Tier.HOST)
        async with cache.controller.lease(B):
            waiting = asyncio.create_task(cache.use(C))
            await until(lambda: C.id in cache.backend.loads)
            await settle()
            assert C.id not in cache.backend.host
            cache.controller.unpin(A.id)
            await until(lambda: C.id in cache.backend.host)
        await waiting
        cache.check()


async def test_after_a_cancelled_pin_the_next_waiter_is_admitted_immediately() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        await cache.use(A)
        async with cache.controller.lease(B), cache.controller.lease(C):
            pinning = asyncio.create_task(cache.controller.pin(A, Tier.GPU))
            waiting = asyncio.create_task(cache.use(D))
            await until(lambda: D.id in cache.backend.loads)
            pinning.cancel()
            await until(lambda: D.id in cache.backend.host)
        await waiting
        cache.check()


async def test_a_pin_ends_a_drain_immediately() -> None:
    async with running(Cache(slots=1, host=2)) as cache:
        async with cache.controller.lease(A):
            cold = asyncio.create_task(cache.use(B))
            await until(lambda: B.id in cache.backend.host)
            assert cache.policy.drain_for(2) == A.id
            held_back = asyncio.create_task(cache.use(A))
            await settle()
            assert not held_back.done()
            await cache.controller.pin(A, Tier.HOST)
            await until(held_back.done)
        await cold
        cache.check()


async def test_a_lease_contains_the_seconds_of_its_own_load() -> None:
    async with running(Cache(load_seconds=0.02)) as cache:
        async with cache.controller.lease(A) as lease:
            assert lease.load_seconds >= 0.02
            assert lease.wait_seconds >= lease.load_seconds
        async with cache.controller.lease(A) as lease:
            assert lease.load_seconds == 0.0
        for version in (B, C):  # which take both slots
            await cache.use(version)
        async with cache.controller.lease(A) as lease:
            assert (lease.outcome, lease.load_seconds) == (CacheOutcome.HOST_HIT, 0.0)


async def test_stopping_cancels_the_loads() -> None:
    cache = Cache(load_seconds=60)
    async with running(cache):
        waiting = asyncio.create_task(cache.use(A))
        await until(lambda: cache.backend.loads == [A.id])
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task(), waiting}
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_eviction_on_request() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        async with cache.controller.lease(A):
            with pytest.raises(AdapterInUse):
                await cache.controller.evict(A)
        assert await cache.controller.evict(A) is True
        assert await cache.controller.evict(A) is False
        await until(lambda: not cache.backend.host)
        assert cache.observer.evictions == [
            (A.id, Tier.HOST, EvictionReason.REQUESTED),
            (A.id, Tier.GPU, EvictionReason.REQUESTED),
        ]
        await cache.controller.pin(B, Tier.HOST)
        with pytest.raises(AdapterPinned):
            await cache.controller.evict(B)
        cache.check()


async def test_a_prefetch_loads_into_host_memory_only() -> None:
    async with running(Cache()) as cache:
        cache.controller.prefetch(A)
        await until(lambda: list(cache.backend.host) == [A.id])
        await until(lambda: not cache.policy.in_transit())
        assert not cache.backend.gpu
        assert await cache.use(A) is CacheOutcome.HOST_HIT
        cache.check()


async def test_a_slot_that_is_free_or_idle_is_taken_without_waiting_for_one() -> None:
    async with running(Cache(slots=2, host=4)) as cache:
        async with cache.controller.lease(A):
            await cache.controller.load_into_idle_slot(B)
            assert set(cache.backend.gpu) == {A.id, B.id}, "one was free"
            await cache.controller.load_into_idle_slot(C)
            assert set(cache.backend.gpu) == {A.id, C.id}, "one was idle"
            async with cache.controller.lease(C):
                await asyncio.wait_for(cache.controller.load_into_idle_slot(D), 20)
                assert set(cache.backend.gpu) == {A.id, C.id}, "both are leased"
        cache.check()


async def test_no_idle_slot_is_taken_while_requests_wait() -> None:
    async with running(Cache(slots=2, host=4)) as cache:
        async with cache.controller.lease(A):
            cache.backend.may_load.clear()
            waiting = asyncio.create_task(cache.use(B))
            await until(lambda: cache.backend.loads == [A.id, B.id])
            await asyncio.wait_for(cache.controller.load_into_idle_slot(C), 20)
            assert C.id not in cache.backend.loads, "the slot is for the one that waits"
            cache.backend.may_load.set()
            await waiting
        cache.check()


async def test_another_version_of_a_loaded_adapter_misses_as_a_new_version() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.use(adapter(9, name="a1"))
        assert cache.observer.lookups == [
            (CacheOutcome.MISS, MissCause.COLD),
            (CacheOutcome.MISS, MissCause.NEW_VERSION),
        ]


async def test_reconcile_reports_drift() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await until(lambda: cache.controller._executor.is_idle)
        await cache.controller.reconcile()
        assert cache.observer.drift == []
        del cache.backend.gpu[A.id]
        await cache.controller.reconcile()
        assert cache.observer.drift == [A.id]
        cache.backend.gpu[A.id] = 0
        del cache.backend.host[A.id]
        await cache.controller.reconcile()
        assert cache.observer.drift == [A.id, A.id]


async def test_reconcile_finds_drift_between_hits() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.use(B)
        await until(lambda: cache.controller._executor.is_idle)
        del cache.backend.gpu[A.id]
        cache.backend.during_readback = lambda: cache.use(A)  # hits, which change the order only
        await cache.controller.reconcile()
        assert cache.observer.drift == [A.id]


async def test_reconcile_reports_nothing_while_adapters_move() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        cache.backend.during_readback = lambda: cache.use(B)
        await cache.controller.reconcile()
        cache.backend.during_readback = None
        waiting = asyncio.create_task(cache.use(C))
        while C.id not in cache.policy.residency().host:
            await asyncio.sleep(0)
        await cache.controller.reconcile()
        await waiting
        await cache.controller.evict(C)
        for _ in range(4):  # while the move is queued, in flight, done
            await cache.controller.reconcile()
            await asyncio.sleep(0)
        assert cache.observer.drift == []


async def test_a_comparison_that_ends_leaves_another_what_moves_meanwhile() -> None:
    async with running(Cache()) as cache:
        reading, may_end = asyncio.Event(), asyncio.Event()

        async def read_slowly() -> None:
            reading.set()
            await may_end.wait()

        cache.backend.during_readback = read_slowly
        slow = asyncio.create_task(cache.controller.reconcile())
        await reading.wait()
        cache.backend.during_readback = None
        await cache.controller.reconcile()
        await cache.use(A)
        may_end.set()
        await slow
        assert cache.observer.drift == []


async def test_the_oldest_wait_is_a_clients_and_no_operators() -> None:
    now = [0.0]
    async with running(Cache(slots=1, clock=lambda: now[0])) as cache:
        async with cache.controller.lease(A):
            prefetching = asyncio.create_task(cache.controller._load_into_slot(B))
            await until(lambda: len(cache.policy.wait_queue))
            now[0] = 5.0
            assert cache.controller.snapshot().oldest_wait_seconds == 0.0
            asking = asyncio.create_task(cache.use(C))
            await until(lambda: len(cache.policy.wait_queue) == 2)
            now[0] = 7.0
            assert cache.controller.snapshot().oldest_wait_seconds == 2.0
        await asyncio.gather(prefetching, asking)


async def test_snapshot_counts_slots_by_state() -> None:
    async with running(Cache(slots=3, host=4)) as cache:
        await cache.controller.pin(A, Tier.GPU)
        await cache.use(B)
        async with cache.controller.lease(C):
            snapshot = cache.controller.snapshot()
            states = {"free": 0, "idle": 1, "leased": 1, "pinned": 1, "down": 0}
            assert snapshot.slots_by_state() == states
            assert snapshot.host_bytes == 300
            assert [r.hits for r in snapshot.gpu] == [0, 0, 0]
            assert len(cache.observer.lookups) == 2, "a pin is no lookup"
            assert [r.version for r in snapshot.gpu] == [A, B, C]


@pytest.mark.parametrize("guaranteed", [True, False])
async def test_random_traffic_with_cancellations_leaks_nothing(guaranteed: bool) -> None:
    rng = random.Random(7)
    versions = [adapter(n) for n in range(1, 9)]
    async with running(Cache(slots=2, host=4, load_seconds=0.001)) as cache:
        cache.backend.guaranteed = guaranteed

        async def client() -> None:
            for _ in range(25):
                task = asyncio.create_task(hold(rng.choice(versions)))
                if rng.random() < 0.4:
                    await asyncio.sleep(rng.random() * 0.004)
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        async def hold(version: AdapterVersion) -> None:
            async with cache.controller.lease(version):
                assert version.id in cache.backend.gpu
                await asyncio.sleep(rng.random() * 0.002)
                assert version.id in cache.backend.gpu

        await asyncio.gather(*(client() for _ in range(10)))
        await until(lambda: not cache.policy.in_transit())
        cache.check()
        misses = sum(outcome is CacheOutcome.MISS for outcome, _ in cache.observer.lookups)
        assert misses > 0


async def test_the_cache_becomes_idle_with_each_last_lease_that_ends() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        waiting = asyncio.create_task(cache.controller.wait_until_idle())
        async with cache.controller.lease(A):
            await cache.use(B)
            await settle()
            assert not waiting.done(), "one is left"
        await asyncio.wait_for(waiting, 20)
        again = asyncio.create_task(cache.controller.wait_until_idle())
        await settle()
        assert not again.done(), "it is so since before"
        await cache.use(A)
        await asyncio.wait_for(again, 20)


async def test_a_pin_of_what_is_in_a_slot_is_no_lookup() -> None:
    async with running(Cache()) as cache:
        await cache.use(A)
        await cache.controller.pin(A, Tier.GPU)
        assert cache.observer.lookups == [(CacheOutcome.MISS, MissCause.COLD)]


async def test_an_adapter_is_idle_since_a_request_last_held_it() -> None:
    now = 0.0
    async with running(Cache(clock=lambda: now)) as cache:
        await cache.use(A)
        now = 10.0
        assert cache.controller.snapshot().host[0].idle_seconds == 10.0
        async with cache.controller.lease(A):
            now = 13.0
            assert cache.controller.snapshot().host[0].idle_seconds == 0.0
        now = 15.0
        assert cache.controller.snapshot().host[0].idle_seconds == 2.0


async def test_a_version_is_used_while_it_is_leased_waited_for_loaded_or_pinned() -> None:
    async with running(Cache(slots=1, host=2, load_seconds=0.02)) as cache:
        uses = cache.controller.uses
        assert not uses(A.id)
        async with cache.controller.lease(A):
            assert uses(A.id)
            waiting = asyncio.create_task(cache.use(B))
            await asyncio.sleep(0)
            assert uses(B.id), "being loaded"
            await until(lambda: B.id in cache.backend.host)
            assert uses(B.id), "waited for"
        await waiting
        assert not uses(A.id)
        assert not uses(B.id), "resident, but not in use"
        await cache.controller.pin(B, Tier.HOST)
        assert uses(B.id)
        cache.check()


async def test_an_eviction_that_waits_is_refused_once_its_adapter_is_pinned() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        async with cache.controller.lease(A):
            leaving = asyncio.create_task(cache.controller.evict(A, wait=True))
            await settle()
            await cache.controller.pin(A, Tier.HOST)
            with pytest.raises(AdapterPinned):
                async with asyncio.timeout(30):
                    await leaving
        assert cache.policy.residency().gpu == (A.id,)


async def test_an_eviction_does_not_wait_for_ever() -> None:
    """Its requests are admitted again, and it is evicted at the next request for that."""
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS, slot_timeout_seconds=0.1)
    async with running(Cache(slots=2, host=3, limits=limits)) as cache:
        async with cache.controller.lease(A):
            for force in (False, True):
                with pytest.raises(EvictionTimeout) as refused:
                    async with asyncio.timeout(30):
                        await cache.controller.evict(A, wait=True, force=force)
                assert refused.value.retry_after_seconds == 1
            async with asyncio.timeout(30):
                await cache.use(A)
        async with asyncio.timeout(30):
            assert await cache.controller.evict(A, wait=True)
        await until(lambda: cache.controller._executor.is_idle)
        cache.check()


async def test_an_eviction_that_is_given_up_admits_those_whom_it_kept_waiting() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS, slot_timeout_seconds=0.6)
    cache = Cache(slots=2, host=3, limits=limits)
    async with running(cache), cache.controller.lease(A):
        evicting = asyncio.create_task(cache.controller.evict(A, wait=True))
        await asyncio.sleep(0.3)  # so its time is over before that of the request
        waiting = asyncio.create_task(cache.use(A))
        await settle()
        assert not waiting.done()
        with pytest.raises(EvictionTimeout):
            await evicting
        assert await waiting is CacheOutcome.GPU_HIT


async def test_an_eviction_that_is_tried_again_is_not_given_up_with_those_before() -> None:
    """Two wait for it; the first whose time is over tries again before the other hears of that."""
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS, slot_timeout_seconds=0.2)
    async with running(Cache(slots=2, host=3, limits=limits)) as cache:

        async def evict_twice() -> bool:
            with pytest.raises(EvictionTimeout):
                await cache.controller.evict(A, wait=True)
            return await cache.controller.evict(A, wait=True)

        async with cache.controller.lease(A):
            first = asyncio.create_task(evict_twice())
            await settle()
            other = asyncio.create_task(cache.controller.evict(A, wait=True))
            with pytest.raises(EvictionTimeout):
                await other
            await settle()
            assert not first.done()
        async with asyncio.timeout(30):
            assert await first


async def test_a_pin_does_not_wait_for_ever_for_host_memory() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS, slot_timeout_seconds=0.1)
    async with running(Cache(slots=2, host=2, limits=limits)) as cache:
        async with cache.controller.lease(A), cache.controller.lease(C):
            with pytest.raises(HostWaitTimeout) as refused:
                async with asyncio.timeout(30):
                    await cache.controller.pin(B, Tier.HOST)
        assert refused.value.retry_after_seconds == 1
        assert not cache.controller.is_pinned(B.id)
        await until(lambda: cache.controller._executor.is_idle)
        cache.check()


async def test_an_eviction_that_waits_for_a_load_ends_when_that_fails() -> None:
    async with running(Cache(slots=2, host=3, load_seconds=0.05)) as cache:
        cache.backend.broken.add(A.id)
        asking = asyncio.create_task(cache.use(A))
        await until(lambda: cache.backend.loads == [A.id])
        async with asyncio.timeout(30):
            assert await cache.controller.evict(A, wait=True)
        with pytest.raises(AdapterLoadFailed):
            await asking


async def test_an_eviction_ends_where_the_engine_had_lost_the_adapter() -> None:
    async with running(Cache(slots=2, host=3)) as cache:
        await cache.use(A)
        await until(lambda: cache.controller._executor.is_idle)
        cache.backend.gpu.clear()
        cache.backend.host.clear()
        waiting = cache.controller._executor.wait_until_evicted(A.id)
        await cache.controller.reconcile()
        async with asyncio.timeout(30):
            await waiting
