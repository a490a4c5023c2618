"""Compares with what the engine holds, whenever all is quiet and now and then anyway."""

import asyncio
import logging
from collections.abc import Callable

from engine.cache.controller import CacheController
from engine.errors import EngineUnavailable
from engine.ports import EngineState

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 1.0  # between two comparisons


class Reconciler:
    """Also the engine's pulse: `silent` is called when it has not answered for too long."""

    def __init__(
        self,
        controller: CacheController,
        *,
        every_seconds: float,
        hang_seconds: float,
        silent: Callable[[], None],
    ) -> None:
        self._controller = controller
        self._every_seconds = every_seconds
        self._hang_seconds = hang_seconds
        self._silent = silent
        self.last_state = EngineState(gpu=(), host=())

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._quiet_or_time()
            await self._compare()
            await asyncio.sleep(min(_LEAST_SECONDS, self._every_seconds))

    async def _quiet_or_time(self) -> None:
        try:
            async with asyncio.timeout(self._every_seconds):
                await self._controller.wait_until_idle()
        except TimeoutError:
            return

    async def _compare(self) -> None:
        try:
            async with asyncio.timeout(self._hang_seconds):
                self.last_state = await self._controller.reconcile()
        except TimeoutError:
            self._silent()
        except EngineUnavailable:
            return  # its supervisor knows
        except Exception:
            logger.exception("the engine could not be asked what it holds")
