"""Stock server process, as a supervisor sees it: from its first answer until it stops answering."""

import asyncio
import logging

from engine.errors import EngineUnavailable
from fleet.stock.backend import StockBackend
from fleet.stock.base_check import BaseCheck
from fleet.stock.client import StockVllm

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
_FAILURES = 3  # in a row


class StockProcess:
    """Implements `EngineProcess` for a server that we did not start and never end."""

    suspended, sleeps = None, False  # its operator is another's

    def __init__(self, server: StockVllm, backend: StockBackend) -> None:
        self._server = server
        self.backend = backend
        self.is_dead = False

    async def wait_for_death(self) -> str:
        failures = 0
        while failures < _FAILURES:
            await asyncio.sleep(_CHECK_SECONDS)
            failures = 0 if await self._server.is_healthy() else failures + 1
        self.is_dead = True
        return f"{self._server.url} does not answer"

    def shut_down(self, timeout_seconds: float | None) -> None:
        """Nothing: the server keeps running."""

    def kill(self) -> None:
        """Nothing: the server keeps running."""

    async def stop(self) -> None:
        self.is_dead = True


class StockStarter:
    """Waits for the server without a limit, and unloads adapters that we left there.

    A server of another base model is waited for too: it may be started again with ours.
    """

    def __init__(self, server: StockVllm, slots: int, base: BaseCheck) -> None:
        self._server = server
        self._slots = slots
        self._base = base
        self._warned = ""

    async def start(self) -> StockProcess:
        while True:
            if await self._server.is_healthy():
                try:
                    await self._base.check(self._server)
                    await self._check_names()
                    await self._unload_leftovers()
                    return StockProcess(self._server, StockBackend(self._server, self._slots))
                except EngineUnavailable as error:
                    self._warn(error.detail)
            await asyncio.sleep(_CHECK_SECONDS)

    async def _check_names(self) -> None:
        """Requests for an adapter that was unloaded have to fail. Raises EngineUnavailable."""
        if await self._server.takes_any_name():
            raise EngineUnavailable(
                f"{self._server.url} answers for any name with its base model: start it without "
                "VLLM_SKIP_MODEL_NAME_VALIDATION"
            )

    def _warn(self, why: str) -> None:
        """Once in a row for each reason."""
        if why != self._warned:
            logger.warning("%s", why)
        self._warned = why

    async def _unload_leftovers(self) -> None:
        """Unload the adapters of an earlier controller, whose leases are lost."""
        for name in await self._server.loaded_adapters():
            if (why := await self._server.unload(name)) is not None:
                logger.warning("%s stays on %s: %s", name, self._server.url, why)
