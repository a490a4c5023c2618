"""Tenant limits in the cache, on the fake backend: slots, host bytes, pins."""

import asyncio
from dataclasses import replace

import pytest

from engine.cache.tenant_limits import TenantCacheUsage
from engine.cache.tenant_memory import Tenancy
from engine.errors import (
    AdapterLoadFailed,
    EngineUnavailable,
    QueueFull,
    SlotWaitTimeout,
    TenantLimitReached,
)
from engine.events import LoadFailed, Refused
from engine.types import (
    AdapterVersion,
    AdmissionLimits,
    CacheOutcome,
    EvictionReason,
    LoadFailure,
    Tier,
    Transition,
    VersionId,
)
from registry.errors.access import Limit
from registry.quotas.limits import NO_LIMITS, TenantLimits
from tests.support.cache.controller_harness import (
    UNTIMED_SECONDS,
    Cache,
    adapter,
    running,
    until,
)

A, B, C, D = (adapter(n, f"acme~a{n}") for n in range(1, 5))
OTHER, PLAIN = adapter(8, "zeta~x"), adapter(9, "plain")
PATIENT = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS)


def owner(name: str) -> str | None:
    tenant, tilde, _ = name.partition("~")
    return tenant if tilde else None


class Limited:
    """A cache whose tenant `acme` has limits that may change, and a clock that the test sets."""

    def __init__(
        self,
        limits: AdmissionLimits = PATIENT,
        *,
        slots: int = 4,
        first_pause_seconds: float = 0.0,
        **of_acme: int,
    ) -> None:
        self.acme = TenantLimits(**of_acme)
        self.now = 0.0
        self.refusals: list[tuple[str, Limit]] = []
        self.cache = Cache(
            slots=slots,
            host=8,
            limits=limits,
            clock=lambda: self.now,
            first_pause_seconds=first_pause_seconds,
            tenancy=Tenancy(
                owner,
                lambda tenant: self.acme if tenant == "acme" else NO_LIMITS,
                lambda tenant, limit: self.refusals.append((tenant, limit)),
            ),
        )
        self.tenants = self.cache.controller.tenants

    def usage(self) -> TenantCacheUsage:
        return self.tenants.usage("acme")

    def residents(self) -> set[VersionId]:
        return set(self.cache.policy.residency().host)


class Holder:
    """A request that holds its adapter until the test ends it."""

    def __init__(self, limited: Limited, version: AdapterVersion) -> None:
        self.version = version
        self.has_it = False
        self._end = asyncio.Event()
        self._limited = limited
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._limited.cache.controller.lease(self.version):
            self.has_it = True
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def holding(limited: Limited, *versions: AdapterVersion) -> list[Holder]:
    holders = [Holder(limited, version) for version in versions]
    await until(lambda: all(holder.has_it for holder in holders))
    return holders


async def settled() -> None:
    for _ in range(40):
        await asyncio.sleep(0)


async def test_no_more_adapters_of_a_tenant_are_in_use_than_it_may_have() -> None:
    limited = Limited(max_slots=2)
    async with running(limited.cache):
        first, second = await holding(limited, A, B)
        third = Holder(limited, C)
        await settled()
        assert not third.has_it
        assert C.id not in limited.cache.backend.loads  # it takes no place from other tenants
        await holding(limited, A)  # which is in use already
        others = await holding(limited, OTHER, PLAIN)  # which belong to others
        assert limited.usage().slots == 2
        assert limited.usage().waiting == 1
        await second.end()
        await until(lambda: third.has_it)
        for holder in (first, third, *others):
            await holder.end()


async def test_an_adapter_in_use_admits_no_request_once_another_has_waited_too_long() -> None:
    limited = Limited(AdmissionLimits(max_slot_wait_seconds=2), max_slots=1)
    async with running(limited.cache):
        hot = (await holding(limited, A))[0]
        waiting = Holder(limited, B)
        await settled()
        (again,) = await holding(limited, A)
        limited.now += 3
        too_late = Holder(limited, A)
        await settled()
        assert not too_late.has_it
        await hot.end()
        await again.end()
        await until(lambda: waiting.has_it)
        assert not too_late.has_it
        await waiting.end()
        await until(lambda: too_late.has_it)
        await too_late.end()
        assert limited.usage() == TenantCacheUsage(host_bytes=200)


async def test_what_waits_for_its_tenant_waits_no_longer_than_for_a_slot() -> None:
    limited = Limited(AdmissionLimits(60, slot_timeout_seconds=0.05), max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        with pytest.raises(SlotWaitTimeout):
            await limited.cache.use(B)
        assert limited.refusals == [("acme", Limit.SLOTS)]
        assert [e.version for e in limited.cache.observer.events if isinstance(e, Refused)] == [B]
        await holder.end()
        assert await limited.cache.use(B) is CacheOutcome.MISS


@pytest.mark.parametrize(
    "limits", [AdmissionLimits(60, max_waiting=1), AdmissionLimits(60, max_waiting_per_adapter=1)]
)
async def test_a_tenants_queue_is_limited_and_takes_nothing_from_other_queues(
    limits: AdmissionLimits,
) -> None:
    limited = Limited(limits, max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        waiting = Holder(limited, B)
        await settled()
        with pytest.raises(QueueFull):
            await limited.cache.use(B)
        assert await limited.cache.use(OTHER) is CacheOutcome.MISS
        assert await limited.cache.use(PLAIN) is CacheOutcome.MISS
        await holder.end()
        await until(lambda: waiting.has_it)
        await waiting.end()


async def test_who_waits_for_a_slot_counts_in_its_tenants_queue_too() -> None:
    limits = AdmissionLimits(60, max_waiting_per_adapter=1)
    limited = Limited(limits, slots=1, max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, OTHER)
        waiting = [Holder(limited, A)]
        await until(lambda: limited.cache.policy.wait_queue.count(A.id))
        waiting.append(Holder(limited, B))
        await until(lambda: limited.usage().waiting)
        limited.now = 61.0  # so that nobody is let past it
        with pytest.raises(QueueFull):
            await asyncio.wait_for(limited.cache.use(A), 20)
        await holder.end()
        for each in waiting:
            await each.end()


async def test_behind_one_that_waits_for_its_tenant_there_is_no_room() -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        assert limited.tenants.has_room(A)
        waiting = Holder(limited, B)
        await until(lambda: limited.usage().waiting)
        assert not limited.tenants.has_room(A), "else a request would wait that was said not to"
        await holder.end()
        await waiting.end()


async def test_the_next_one_of_a_tenant_is_admitted_as_soon_as_one_before_it_leaves() -> None:
    limited = Limited(max_host_bytes=200)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        leaving = Holder(limited, replace(C, size_bytes=150))
        await settled()
        following = Holder(limited, B)
        await settled()
        assert not following.has_it
        leaving.task.cancel()
        await until(lambda: following.has_it)
        await holder.end()
        await following.end()


async def test_what_is_admitted_is_not_evicted_for_the_next_one_that_waits() -> None:
    limited = Limited(max_slots=1, max_host_bytes=200)
    async with running(limited.cache) as cache:
        await cache.use(A)
        (holder,) = await holding(limited, B)
        waiting = [Holder(limited, A), Holder(limited, C)]
        await settled()
        limited.acme = TenantLimits(max_slots=3, max_host_bytes=200)
        limited.tenants.check_queues()
        await until(lambda: waiting[0].has_it)
        assert cache.backend.loads == [A.id, B.id]
        for each in (holder, *waiting):
            await each.end()


async def test_a_tenant_without_slots_is_refused_immediately() -> None:
    limited = Limited(max_slots=0)
    async with running(limited.cache):
        with pytest.raises(TenantLimitReached) as refusal:
            await limited.cache.use(A)
        assert (refusal.value.status, refusal.value.retry_after_seconds) == (409, None)


async def test_waiters_are_admitted_when_a_limit_is_lifted() -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        waiting = Holder(limited, B)
        await settled()
        limited.acme = NO_LIMITS
        limited.tenants.check_queues()
        await until(lambda: waiting.has_it)
        await holder.end()
        await waiting.end()


async def test_no_request_waits_for_its_tenant_once_the_engine_has_died() -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        waiting = asyncio.create_task(limited.cache.use(B))
        await settled()
        await limited.cache.controller.on_engine_lost(EngineUnavailable("it died"))
        with pytest.raises(EngineUnavailable):
            await waiting
        with pytest.raises(EngineUnavailable):
            await limited.cache.use(C)
        await holder.end()
        assert limited.usage().slots == 0


@pytest.mark.parametrize("iterations", range(12))
async def test_cancelling_at_any_iteration_of_the_loop_leaks_no_place(iterations: int) -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache):
        (holder,) = await holding(limited, A)
        leaving = asyncio.create_task(limited.cache.use(B))
        await settled()
        holder._end.set()
        for _ in range(iterations):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await holder.task
        assert await limited.cache.use(C) is CacheOutcome.MISS
        await until(lambda: not limited.cache.policy.in_transit())
        assert limited.usage().slots == 0
        limited.cache.check()


# ---- host bytes ------------------------------------------------------------------------------


async def test_an_adapter_may_take_all_of_its_tenants_bytes_and_no_more() -> None:
    for most, outcome in ((A.size_bytes, CacheOutcome.MISS), (A.size_bytes - 1, None)):
        limited = Limited(max_host_bytes=most)
        async with running(limited.cache) as cache:
            if outcome is None:
                with pytest.raises(TenantLimitReached):
                    await cache.use(A)
            else:
                assert await cache.use(A) is outcome


async def test_for_one_more_the_tenants_own_least_recently_used_is_evicted() -> None:
    limited = Limited(max_host_bytes=200)
    async with running(limited.cache) as cache:
        for version in (OTHER, PLAIN, A, B, C):
            await cache.use(version)
        assert limited.residents() == {OTHER.id, PLAIN.id, B.id, C.id}
        assert (A.id, Tier.HOST, EvictionReason.TENANT_LIMIT) in cache.observer.evictions
        assert limited.usage().host_bytes == 200
        await cache.use(B)
        await cache.use(D)
        assert limited.residents() == {OTHER.id, PLAIN.id, B.id, D.id}
        await until(lambda: not cache.policy.in_transit())
        cache.check()


async def test_a_request_for_what_is_being_loaded_takes_no_more_bytes() -> None:
    limited = Limited(max_host_bytes=200)
    async with running(limited.cache) as cache:
        await cache.use(A)
        cache.backend.may_load.clear()
        cache.controller.prefetch(B)
        waiting = Holder(limited, B)
        await settled()
        cache.backend.may_load.set()
        await until(lambda: waiting.has_it)
        assert limited.residents() == {A.id, B.id}
        await waiting.end()


async def test_one_larger_than_its_tenants_bytes_is_refused() -> None:
    limited = Limited(max_host_bytes=99)
    async with running(limited.cache) as cache:
        with pytest.raises(TenantLimitReached) as refusal:
            await cache.use(A)
        assert refusal.value.status == 409
        with pytest.raises(TenantLimitReached):
            cache.controller.prefetch(A)
        assert limited.refusals == [("acme", Limit.HOST_BYTES)] * 2
        assert not cache.backend.loads


async def test_bytes_that_are_in_use_are_waited_for() -> None:
    limited = Limited(max_host_bytes=200)
    async with running(limited.cache):
        first, second = await holding(limited, A, B)
        waiting = Holder(limited, C)
        await settled()
        assert not waiting.has_it
        with pytest.raises(TenantLimitReached):
            limited.cache.controller.prefetch(D)
        await first.end()
        await until(lambda: waiting.has_it)
        assert limited.residents() == {B.id, C.id}
        await second.end()
        await waiting.end()


async def test_a_request_that_only_a_pin_keeps_out_delays_no_other() -> None:
    limited = Limited(AdmissionLimits(max_slot_wait_seconds=2), max_host_bytes=200)
    large = replace(C, size_bytes=150)
    async with running(limited.cache) as cache:
        await cache.controller.pin(A, Tier.HOST)
        waiting = Holder(limited, large)
        await settled()
        limited.now += 10
        for _ in range(3):
            await cache.use(B)
        assert not waiting.has_it
        cache.controller.unpin(A.id)
        limited.tenants.check_queues()
        await until(lambda: waiting.has_it)
        await waiting.end()


async def test_a_lowered_limit_is_enforced_as_soon_as_possible() -> None:
    limited = Limited()
    async with running(limited.cache) as cache:
        for version in (A, B, C):
            await cache.use(version)
        (holder,) = await holding(limited, A)
        limited.acme = TenantLimits(max_host_bytes=100)
        limited.now += 2
        limited.tenants.check_queues()
        assert limited.residents() == {A.id}
        await holder.end()


async def test_what_takes_more_than_its_files_is_evicted_once_it_is_idle() -> None:
    limited = Limited(max_host_bytes=150)

    async with running(limited.cache) as cache:
        await cache.use(A)
        cache.policy._tiers.learn_size(A.id, 400)  # as a load may report
        limited.now += 2
        limited.tenants.check_queues()
        assert not limited.residents()


# ---- pins ------------------------------------------------------------------------------------


async def test_a_tenant_has_its_number_of_pins_in_both_tiers_together() -> None:
    limited = Limited(max_pins=2)
    async with running(limited.cache) as cache:
        await cache.controller.pin(A, Tier.GPU)
        await cache.controller.pin(B, Tier.HOST)
        await cache.controller.pin(B, Tier.GPU)  # which is in use already
        with pytest.raises(TenantLimitReached) as refusal:
            await cache.controller.pin(C, Tier.HOST)
        assert refusal.value.status == 409
        await cache.controller.pin(OTHER, Tier.HOST)
        assert limited.usage().pins == 2
        assert limited.refusals == [("acme", Limit.PINS)]
        cache.controller.unpin(A.id)
        await cache.controller.pin(C, Tier.HOST)


async def test_pins_leave_the_tenants_bytes_as_they_are() -> None:
    limited = Limited(max_host_bytes=250)
    async with running(limited.cache) as cache:
        await cache.controller.pin(A, Tier.HOST)
        await cache.controller.pin(B, Tier.HOST)
        with pytest.raises(TenantLimitReached):
            await cache.controller.pin(C, Tier.GPU)
        assert limited.refusals == [("acme", Limit.HOST_BYTES)]
        assert limited.usage() == TenantCacheUsage(host_bytes=200, pins=2)


async def test_a_pin_to_a_slot_waits_for_the_tenants_slots_as_a_request_does() -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache) as cache:
        (holder,) = await holding(limited, A)
        pinning = asyncio.create_task(cache.controller.pin(B, Tier.GPU))
        await settled()
        assert not pinning.done()
        await cache.controller.load_into_idle_slot(C)  # a promotion that does not wait
        assert C.id not in limited.residents()
        await holder.end()
        await pinning
        assert limited.usage() == TenantCacheUsage(host_bytes=200, pins=1)


async def test_what_can_not_be_loaded_now_is_refused_before_it_waits_for_its_tenant() -> None:
    limited = Limited(first_pause_seconds=1.0, max_slots=1)
    async with running(limited.cache) as cache, cache.controller.lease(A):
        failure = AdapterLoadFailed(B.reference, "on purpose", LoadFailure.STORE)
        cache.controller.gate.on_event(LoadFailed(B, Transition.DISK_TO_HOST, failure))
        with pytest.raises(AdapterLoadFailed):
            await asyncio.wait_for(cache.use(B), 20)
        assert limited.usage().waiting == 0


async def test_the_wait_for_a_slot_is_shorter_by_that_within_the_tenants_limits() -> None:
    limited = Limited(slots=1, max_slots=1)
    async with running(limited.cache) as cache, cache.controller.lease(OTHER):
        before = asyncio.create_task(cache.use(A))
        await until(lambda: limited.usage().slots == 1)
        waiting = asyncio.create_task(cache.use(B))
        await until(lambda: limited.usage().waiting == 1)
        limited.now = PATIENT.slot_timeout_seconds
        before.cancel()
        with pytest.raises(SlotWaitTimeout):
            await asyncio.wait_for(waiting, 20)


async def test_the_wait_within_the_tenants_limits_is_part_of_the_leases() -> None:
    limited = Limited(max_slots=1)
    async with running(limited.cache) as cache:
        for outcome in (CacheOutcome.MISS, CacheOutcome.GPU_HIT):
            async with cache.controller.lease(A):
                lease = cache.controller.lease(B)
                waiting = asyncio.create_task(lease.acquire())
                await until(lambda: limited.usage().waiting == 1)
                limited.now += 5.0
            found = await asyncio.wait_for(waiting, 20)
            assert (found.outcome, found.wait_seconds) == (outcome, 5.0)
            lease.release()
