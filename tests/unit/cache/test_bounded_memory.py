"""Memory of the cache: nothing grows with the versions that were ever used."""

import pytest

from engine.errors import AdapterTooLarge
from engine.policy.decisions import StartLoad
from engine.policy.policy import CachePolicy
from engine.policy.version_map import VERSIONS_REMEMBERED
from engine.types import Tier, VersionId
from tests.support.cache.controller_harness import A, B, Cache, adapter, running

LIMIT = 2 * VERSIONS_REMEMBERED + 1


def _nothing() -> None:
    pass


async def test_versions_that_come_and_go_are_forgotten() -> None:
    cache = Cache(slots=2, host=4)
    async with running(cache):
        await cache.controller.pin(A, Tier.HOST)
        for number in range(2, 3 * VERSIONS_REMEMBERED):
            async with cache.controller.lease(adapter(number, f"a{number}"), _nothing):
                pass
    executor, revocations = cache.controller._executor, cache.controller._admission._revocations
    assert len(executor._loads) <= 1
    assert not revocations._revokes
    state = cache.controller._state
    assert len(state._known) <= LIMIT
    assert len(state._history) <= 3 * VERSIONS_REMEMBERED
    assert len(cache.policy._tiers._sizes) <= LIMIT
    assert state.version(A.id) == A, "it is pinned"
    assert cache.policy.size_of(A.id) == 100
    cache.check()


def test_a_huge_adapter_that_was_evicted_does_not_lower_the_pin_budget() -> None:
    huge, other = VersionId(1), VersionId(2)
    policy = CachePolicy(slots=1, host_capacity=4, host_bytes=100)
    policy.learn_size(huge, 90)  # a request was refused for another reason, or has ended
    policy.learn_size(other, 50)
    policy.pin(other, Tier.HOST)
    with pytest.raises(AdapterTooLarge):
        policy.learn_size(huge, 90)  # but now it does not fit beside the pin


async def test_an_adapter_found_too_large_is_refused_without_another_read() -> None:
    cache = Cache(host_bytes=150)
    loads = 0
    read = cache.backend.load

    async def load(version):  # type: ignore[no-untyped-def]
        nonlocal loads
        loads += 1
        loaded = await read(version)
        return type(loaded)(200, guaranteed=loaded.guaranteed)

    cache.backend.load = load  # type: ignore[method-assign]
    async with running(cache):
        for _ in range(3):
            with pytest.raises(AdapterTooLarge):
                await cache.use(B)
    assert loads == 1


def test_a_size_once_found_counts_as_soon_as_the_pins_leave_room() -> None:
    policy = CachePolicy(slots=1, host_capacity=4, host_bytes=100)
    pinned, large = VersionId(1), VersionId(2)
    policy.learn_size(pinned, 50)
    policy.pin(pinned, Tier.HOST)
    policy.arrive(1, large)
    assert policy.advance() == [StartLoad(large)]
    with pytest.raises(AdapterTooLarge):
        policy.on_loaded(large, 80)
    policy.on_failed(large)
    with pytest.raises(AdapterTooLarge):
        policy.learn_size(large, 10)
    policy.pins.remove(pinned)
    policy.learn_size(large, 10)
    assert policy.size_of(large) == 80
