"""A stock server from when it answers until it does not: the `Life` that a supervisor follows."""

import asyncio
import logging

from engine.errors import EngineUnavailable
from fleet.stock.backend import StockBackend
from fleet.stock.client import StockVllm

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_FAILURES = 3  # in a row


class StockLife:
    """Implements `engine.vllm.supervisor.Life` for a server that we did not start and never end."""

    def __init__(self, server: StockVllm, backend: StockBackend) -> None:
        self._server = server
        self.backend = backend
        self.is_dead = False

    async def death(self) -> str:
        failures = 0
        while failures < _FAILURES:
            await asyncio.sleep(_LOOK_SECONDS)
            failures = 0 if await self._server.is_well() else failures + 1
        self.is_dead = True
        return f"{self._server.url} does not answer"

    def shut_down(self, timeout_seconds: float | None) -> None:
        """It serves on."""

    def kill(self) -> None:
        """It serves on."""

    async def end(self) -> None:
        self.is_dead = True


class StockStarter:
    """Waits for the server, however long that takes, and takes over what is left there of ours."""

    def __init__(self, server: StockVllm, slots: int) -> None:
        self._server = server
        self._slots = slots

    async def start(self) -> StockLife:
        while True:
            if await self._server.is_well():
                try:
                    await self._unload_what_is_left()
                    return StockLife(self._server, StockBackend(self._server, self._slots))
                except EngineUnavailable as error:
                    logger.warning("%s", error.detail)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _unload_what_is_left(self) -> None:
        """Of an earlier controller: nobody knows who leased it."""
        for name in await self._server.ours():
            if (why := await self._server.unload(name)) is not None:
                logger.warning("%s stays on %s: %s", name, self._server.url, why)
