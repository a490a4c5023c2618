"""Reconciler: compares with the engine's state when the cache becomes idle, and periodically."""

import asyncio
import logging
from collections.abc import Callable

from engine.cache.controller import CacheController
from engine.errors import EngineUnavailable
from engine.ports import EngineState

logger = logging.getLogger(__name__)

_MIN_SECONDS = 1.0  # between two comparisons


class Reconciler:
    """Also detects a hang: `on_hang` is called when the engine has not answered for too long.

    `sleeps`: whether an engine that serves no request answers nevertheless.
    """

    def __init__(
        self,
        controller: CacheController,
        *,
        every_seconds: float,
        hang_seconds: float,
        on_hang: Callable[[], None],
        sleeps: Callable[[], bool] = lambda: False,
    ) -> None:
        self._controller = controller
        self._every_seconds = every_seconds
        self._hang_seconds = hang_seconds
        self._on_hang = on_hang
        self._sleeps = sleeps
        self.last_state = EngineState(gpu=(), host=())

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._wait_until_due()
            await self._compare()
            await asyncio.sleep(min(_MIN_SECONDS, self._every_seconds))

    async def _wait_until_due(self) -> None:
        try:
            async with asyncio.timeout(self._every_seconds):
                await self._controller.wait_until_idle()
        except TimeoutError:
            return

    async def _compare(self) -> None:
        if not self._should_answer():
            return
        try:
            async with asyncio.timeout(self._hang_seconds):
                self.last_state = await self._controller.reconcile()
        except TimeoutError:
            if self._should_answer():  # nor has it begun to fall asleep or to wake up
                self._on_hang()
        except EngineUnavailable:
            return  # its supervisor handles it
        except Exception:
            logger.exception("the engine's state could not be read")

    def _should_answer(self) -> bool:
        """One that falls asleep, or wakes up, may be silent for long."""
        return self._controller.unavailable is None or self._sleeps()
