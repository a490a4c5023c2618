"""Reconciler: an engine that does not answer hangs, unless it was put to sleep."""

import asyncio
from typing import Any

import pytest

from engine.cache.reconciler import Reconciler
from engine.errors import EngineAsleep, EngineUnavailable


class Silent:
    """A controller whose engine does not answer."""

    def __init__(self, unavailable: EngineUnavailable | None) -> None:
        self.unavailable = unavailable

    async def wait_until_idle(self) -> None:
        return

    async def reconcile(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(("why", "hangs"), [(None, True), (EngineAsleep(), False)])
async def test_a_silent_engine_hangs_unless_it_sleeps(
    why: EngineUnavailable | None, hangs: bool
) -> None:
    hung = asyncio.Event()
    controller: Any = Silent(why)
    reconciler = Reconciler(controller, every_seconds=0.01, hang_seconds=0.01, on_hang=hung.set)
    running = asyncio.create_task(reconciler.run())
    try:
        async with asyncio.timeout(0.2 if why else 10):
            await hung.wait()
    except TimeoutError:
        assert not hangs
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert hung.is_set() is hangs
