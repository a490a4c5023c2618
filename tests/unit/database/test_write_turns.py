"""Writers of SQLite take turns: a queue that moves is waited for, one that stands still is not."""

import asyncio

import pytest

from registry.database.write_turns import WriteTurns
from registry.errors import DatabaseUnavailable

STALL = 0.3


async def hold(turns: WriteTurns, seconds: float, done: list[int], number: int) -> None:
    async with turns.turn():
        await asyncio.sleep(seconds)
        done.append(number)


async def test_a_queue_that_moves_is_waited_for_in_order_however_long() -> None:
    turns, done = WriteTurns(STALL), list[int]()
    async with asyncio.timeout(20):
        await asyncio.gather(*(hold(turns, STALL / 4, done, n) for n in range(12)))
    assert done == list(range(12)), "3 times as long as one may stand still"


async def test_a_queue_that_stands_still_is_refused_and_goes_on_afterwards() -> None:
    turns, done = WriteTurns(STALL), list[int]()
    stuck = asyncio.create_task(hold(turns, 60, done, 0))
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    refused = await asyncio.gather(
        *(hold(turns, 0, done, n) for n in (1, 2)), return_exceptions=True
    )
    assert [type(error) for error in refused] == [DatabaseUnavailable] * 2
    assert asyncio.get_running_loop().time() - began < 10
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    async with asyncio.timeout(10):
        await hold(turns, 0, done, 3)
    assert done == [3]


async def test_no_wait_is_longer_than_the_longest() -> None:
    turns, done = WriteTurns(STALL, longest_wait_seconds=STALL), list[int]()
    short = [hold(turns, STALL / 3, done, n) for n in range(20)]
    async with asyncio.timeout(20):
        results = await asyncio.gather(*short, return_exceptions=True)
    assert done
    assert any(isinstance(error, DatabaseUnavailable) for error in results)


async def test_who_leaves_the_queue_takes_no_turn_along() -> None:
    turns, done = WriteTurns(STALL), list[int]()
    first = asyncio.create_task(hold(turns, 0.05, done, 0))
    await asyncio.sleep(0)
    leaving = [asyncio.create_task(hold(turns, 60, done, n)) for n in (1, 2)]
    last = asyncio.create_task(hold(turns, 0, done, 3))
    await asyncio.sleep(0.01)
    leaving[0].cancel()
    await first
    leaving[1].cancel()  # at the moment at which it may have been given the turn
    async with asyncio.timeout(10):
        await last
    assert done == [0, 3]


@pytest.mark.parametrize("ticks", range(8))
async def test_a_turn_given_to_one_who_leaves_is_passed_on(ticks: int) -> None:
    turns, done = WriteTurns(5), list[int]()
    first = asyncio.create_task(hold(turns, 0, done, 0))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(hold(turns, 60, done, 1))
    for _ in range(ticks):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(first, leaving, return_exceptions=True)
    async with asyncio.timeout(30):
        await hold(turns, 0, done, 2)
    assert done[-1] == 2
