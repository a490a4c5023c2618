"""Failed loads end with their cause: refused at once for a bounded time, then attempted again."""

import asyncio

import pytest

from engine.artifact_files import load_error
from engine.cache.load_gate import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, FitCheck
from engine.engine_fit import EngineFit
from engine.errors import (
    AdapterFilesMissing,
    AdapterLoadFailed,
    AdapterStoreAway,
    AdapterUnfit,
    LoadsStalled,
)
from engine.events import LoadFailed
from engine.types import AdapterVersion, CacheOutcome, LoadFailure, Tier
from tests.support.cache.controller_harness import Cache, adapter, running

A, B = adapter(1), adapter(2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def remembering(clock: Clock, fit: FitCheck | None = None) -> Cache:
    return Cache(clock=clock, first_pause_seconds=FIRST_PAUSE_SECONDS, fit=fit)


class FitUntilRead:
    """Serves everything at first; later nothing that is not in memory by then."""

    is_over = False

    def check(self, version: AdapterVersion) -> None:
        if self.is_over:
            raise load_error(version.reference, "no longer fits", LoadFailure.RANK)


def breaks(cache: Cache, version: AdapterVersion, failure: LoadFailure) -> None:
    cache.backend.load_breaks = load_error(version.reference, "on purpose", failure)


async def refusal(cache: Cache, version: AdapterVersion) -> AdapterLoadFailed:
    with pytest.raises(AdapterLoadFailed) as refused:
        await asyncio.wait_for(cache.use(version), 20)
    return refused.value


OWN = sorted(set(LoadFailure) - {LoadFailure.STALLED})


@pytest.mark.parametrize("failure", OWN)
async def test_a_failure_is_remembered_until_the_next_attempt_is_due(failure: LoadFailure) -> None:
    clock = Clock()
    async with running(remembering(clock)) as cache:
        breaks(cache, A, failure)
        first = await refusal(cache, A)
        assert (first.failure, first.retry_after_seconds) == (failure, 1)
        cache.backend.load_breaks = None
        clock.now = 0.9
        again = await refusal(cache, A)
        assert (again.failure, again.code, again.status) == (failure, first.code, 503)
        assert again.retry_after_seconds == 1
        assert cache.backend.loads == [], "no attempt was made"
        assert await cache.use(B) is CacheOutcome.MISS, "others are served"
        clock.now = 1.0
        assert await cache.use(A) is CacheOutcome.MISS, "it ends with its cause"


async def test_a_read_that_hangs_is_not_remembered() -> None:
    """It is refused without an attempt, for as long as it hangs."""
    async with running(remembering(Clock())) as cache:
        breaks(cache, A, LoadFailure.STALLED)
        await refusal(cache, A)
        cache.backend.load_breaks = None
        assert await cache.use(A) is CacheOutcome.MISS


async def test_the_pauses_grow_up_to_a_bound_and_begin_again_after_a_success() -> None:
    clock = Clock()
    async with running(remembering(clock)) as cache:
        breaks(cache, A, LoadFailure.STORE)
        pauses = []
        for _ in range(6):
            error = await refusal(cache, A)
            pauses.append(error.retry_after_seconds)
            clock.now += pauses[-1] or 0
        assert pauses == [1, 2, 4, LONGEST_PAUSE_SECONDS, 8, 8]
        clock.now -= 1
        first, clock.now = await refusal(cache, A), clock.now - 4
        assert (await refusal(cache, A)).retry_after_seconds == 5
        assert first.retry_after_seconds == 1, "each has its own"
        clock.now += 5
        cache.backend.load_breaks = None
        await cache.use(A)
        await cache.controller.evict(A)
        breaks(cache, A, LoadFailure.DEVICE)
        assert (await refusal(cache, A)).retry_after_seconds == 1


async def test_what_is_in_memory_is_served_whatever_failed_before() -> None:
    clock = Clock()
    async with running(remembering(clock)) as cache:
        await cache.use(A)
        breaks(cache, A, LoadFailure.STORE)
        breaks(cache, B, LoadFailure.STORE)
        await refusal(cache, B)
        assert await cache.use(A) is CacheOutcome.GPU_HIT


async def test_what_is_in_memory_is_leased_prefetched_and_pinned_though_it_fits_no_longer() -> None:
    fit = FitUntilRead()
    async with running(remembering(Clock(), fit)) as cache:
        await cache.use(A)
        fit.is_over = True
        await refusal(cache, B)
        assert await cache.use(A) is CacheOutcome.GPU_HIT
        cache.controller.prefetch(A)
        for tier in Tier:
            await cache.controller.pin(A, tier)


async def test_a_new_engine_attempts_at_once() -> None:
    clock = Clock()
    async with running(remembering(clock)) as cache:
        breaks(cache, A, LoadFailure.DEVICE)
        await refusal(cache, A)
        cache.backend.load_breaks = None
        cache.controller.on_engine_ready()
        assert await cache.use(A) is CacheOutcome.MISS


async def test_an_unfit_version_is_refused_before_it_waits_or_is_read() -> None:
    """By requests, prefetches, the warm-up and pins; counted once for each pause."""
    clock = Clock()
    async with running(remembering(clock, EngineFit(A.rank - 1))) as cache:
        for _ in range(3):
            error = await refusal(cache, A)
            assert isinstance(error, AdapterUnfit)
            assert (error.code, error.failure) == ("rank_too_large", LoadFailure.RANK)
            assert error.retry_after_seconds
        with pytest.raises(AdapterUnfit):
            cache.controller.prefetch(A)
        for tier in Tier:
            with pytest.raises(AdapterUnfit):
                await cache.controller.pin(A, tier)
        assert not cache.controller.is_pinned(A.id)
        assert cache.backend.loads == []
        failed = [event for event in cache.observer.events if isinstance(event, LoadFailed)]
        assert len(failed) == 1
        clock.now = 1.0
        await refusal(cache, A)
        assert len(cache.observer.failures) == 2


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (LoadFailure.MISSING, AdapterFilesMissing, "adapter_files_missing"),
        (LoadFailure.STORE, AdapterStoreAway, "store_unavailable"),
        (LoadFailure.STALLED, LoadsStalled, "loads_stalled"),
        (LoadFailure.DEVICE, AdapterLoadFailed, "adapter_load_failed"),
    ],
)
def test_the_codes_of_refusals_are_stable(
    failure: LoadFailure, kind: type[AdapterLoadFailed], code: str
) -> None:
    error = load_error("a:1", "on purpose", failure)
    assert (type(error), error.code, error.failure) == (kind, code, failure)
    assert error.retry_after_seconds
