"""Reconciler: an engine that does not answer hangs, unless it falls asleep or wakes up."""

import asyncio
from typing import Any

import pytest

from engine.cache.reconciler import Reconciler
from engine.errors import EngineAsleep, EngineUnavailable


class Silent:
    """A controller whose engine does not answer. `sleeps`: until it is asked, if it `wakes`."""

    def __init__(
        self, unavailable: EngineUnavailable | None, *, sleeps: bool = False, wakes: bool = False
    ) -> None:
        self.unavailable = unavailable
        self.sleeps = sleeps
        self.may_be_silent = wakes or (unavailable is not None and not sleeps)
        self.asked = 0
        self.breaks = False
        self._wakes = wakes

    async def wait_until_idle(self) -> None:
        return

    async def reconcile(self) -> None:
        self.asked += 1
        if self.breaks and self.asked == 1:
            raise RuntimeError("broken on purpose")
        self.sleeps = self.sleeps and not self._wakes
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("why", "sleeps", "hangs"),
    [
        (None, False, True),
        (EngineAsleep(), True, True),
        (EngineAsleep(), False, False),
    ],
    ids=["serves", "sleeps", "falls asleep"],
)
async def test_a_silent_engine_hangs_unless_it_falls_asleep(
    why: EngineUnavailable | None, sleeps: bool, hangs: bool
) -> None:
    assert await is_hung(Silent(why, sleeps=sleeps)) is hangs


async def test_one_that_is_being_woken_up_may_be_silent() -> None:
    controller = Silent(EngineAsleep(), sleeps=True, wakes=True)
    assert not await is_hung(controller)
    assert controller.asked == 1


async def test_one_whose_state_can_not_be_read_is_asked_again() -> None:
    controller = Silent(None)
    controller.breaks = True
    assert await is_hung(controller)
    assert controller.asked > 1


async def is_hung(controller: Any) -> bool:
    hung = asyncio.Event()
    reconciler = Reconciler(
        controller,
        every_seconds=0.01,
        hang_seconds=0.01,
        on_hang=hung.set,
        sleeps=lambda: controller.sleeps,
    )
    running = asyncio.create_task(reconciler.run())
    try:
        async with asyncio.timeout(0.2 if controller.may_be_silent else 10):
            await hung.wait()
    except TimeoutError:
        return False
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return True
