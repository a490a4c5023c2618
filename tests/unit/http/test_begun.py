"""Begun work: what need not wait has ended, and what waits can be awaited like any other."""

import asyncio
from collections.abc import Callable

import pytest

from registry.begun import Begun


async def _add(one: asyncio.Future[int], other: asyncio.Future[int]) -> int:
    return await one + await other


def _future(value: int | None = None) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    if value is not None:
        future.set_result(value)
    return future


async def test_work_that_need_not_wait_has_its_result_immediately() -> None:
    begun = Begun(_add(_future(1), _future(2)))
    assert begun.is_done
    assert begun.result == 3
    assert await begun == 3


@pytest.mark.parametrize("run", [asyncio.ensure_future, lambda begun: begun])
async def test_work_that_waits_goes_on_where_it_is_awaited(
    run: Callable[[Begun[int]], asyncio.Future[int]],
) -> None:
    one, other = _future(), _future()
    begun = Begun(_add(one, other))
    assert not begun.is_done
    loop = asyncio.get_running_loop()
    loop.call_soon(one.set_result, 1)
    loop.call_later(0.01, other.set_result, 2)
    assert await run(begun) == 3


async def test_what_it_raises_before_it_waits_is_raised_immediately() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Begun(fail())


async def test_what_it_raises_later_is_raised_where_it_is_awaited() -> None:
    one = _future()
    begun = Begun(_add(one, _future(1)))
    one.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await begun


@pytest.mark.parametrize("handles", [True, False])
async def test_a_cancellation_reaches_it(handles: bool) -> None:
    seen: list[str] = []

    async def work(first: asyncio.Future[int], second: asyncio.Future[int]) -> int:
        try:
            return await first
        except asyncio.CancelledError:
            seen.append("cancelled")
            if handles:
                return await second
            raise

    begun = Begun(work(_future(), _future(2)))
    task = asyncio.ensure_future(begun)
    await asyncio.sleep(0)
    task.cancel()
    if handles:
        assert await task == 2
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == ["cancelled"]


async def test_a_timeout_ends_it() -> None:
    begun = Begun(_add(_future(), _future()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await begun
