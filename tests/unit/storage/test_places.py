"""Places: a tenant can't take them all, and the platform may. Turns: tenants alternate."""

import asyncio
from contextlib import ExitStack

import pytest

from registry.auth.caller import Caller, as_caller
from registry.errors import TooManyStreams
from registry.http.sse import StreamLimiter, StreamLimits
from registry.places import Places
from registry.quotas.turns import Turns


def taken_by(places: Places, tenant: str | None) -> int:
    count = 0
    while places.has_place(tenant):
        places.take(tenant)
        count += 1
    return count


def test_each_tenant_leaves_places_to_others() -> None:
    places = Places(8)
    assert [taken_by(places, tenant) for tenant in "abcde"] == [4, 2, 1, 1, 0]
    assert not places.has_place(None)


def test_the_platform_may_take_all() -> None:
    assert taken_by(Places(8), None) == 8


def test_the_only_place_is_for_whoever_comes_first() -> None:
    places = Places(1)
    with places.hold("a"):
        assert places.taken == 1
        assert not places.has_place("b")
    assert places.has_place("b")


def test_of_two_places_a_tenant_gets_one() -> None:
    places = Places(2)
    assert [taken_by(places, tenant) for tenant in "ab"] == [1, 1]
    places.give_back("a")
    assert not places.has_place("b")
    assert places.has_place("c")


def test_streams_are_shared_among_tenants() -> None:
    """One tenant with all its streams open leaves places to another, and to the platform."""
    limiter = StreamLimiter(StreamLimits(max_streams=4), asyncio.Event())
    with ExitStack() as open_streams:
        with as_caller(Caller("greedy~app", frozenset())):
            for _ in range(2):
                limiter.check()
                open_streams.enter_context(limiter.acquire())
            with pytest.raises(TooManyStreams, match="greedy"):
                limiter.check()
        for name in ("other~app", "platform"):
            with as_caller(Caller(name, frozenset())):
                limiter.check()
                open_streams.enter_context(limiter.acquire())
        assert limiter.open == 4
    assert limiter.open == 0


async def test_turns_go_round_the_tenants_that_wait() -> None:
    turns, order = Turns(1), list[str]()

    async def work(tenant: str) -> None:
        assert await turns.take(tenant, within_seconds=5)
        order.append(tenant)
        await asyncio.sleep(0)
        turns.give_back()

    assert await turns.take("a", within_seconds=0)
    working = [asyncio.create_task(work(tenant)) for tenant in "aaabbc"]
    await asyncio.sleep(0)
    turns.give_back()
    await asyncio.gather(*working)
    assert order == ["a", "b", "c", "a", "b", "a"]


async def test_while_it_is_narrow_there_is_one_place_and_all_of_them_afterwards() -> None:
    narrow = [True]
    turns = Turns(2, is_narrow=lambda: narrow[0])
    assert await turns.take("a", within_seconds=0)
    assert not await turns.take("b", within_seconds=0)
    waiting = [asyncio.create_task(turns.take(tenant, within_seconds=5)) for tenant in "bcd"]
    await asyncio.sleep(0)
    turns.give_back()
    await asyncio.sleep(0.01)
    assert [turn.done() for turn in waiting] == [True, False, False]
    narrow[0] = False
    turns.give_back()
    await asyncio.sleep(0.01)
    assert all(turn.done() for turn in waiting), "both places are given"
    narrow[0] = True
    turns.give_back()
    assert not await turns.take("e", within_seconds=0), "one is held still"
    turns.give_back()
    assert await turns.take("e", within_seconds=0)


async def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    turns = Turns(1)
    assert await turns.take("a", within_seconds=0)
    assert not await turns.take("b", within_seconds=0)
    assert not await turns.take("b", within_seconds=0.01)
    leaving = asyncio.create_task(turns.take("b", within_seconds=5))
    staying = asyncio.create_task(turns.take("c", within_seconds=5))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    turns.give_back()
    assert await staying
    turns.give_back()
    assert await turns.take("d", within_seconds=0)
