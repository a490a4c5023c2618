"""Carries moves to the backend in the order decided, as few round trips as possible."""

import asyncio
import logging
from collections.abc import Callable

from engine.decisions import Move
from engine.errors import EngineUnavailable
from engine.ports import Backend, MoveResult

logger = logging.getLogger(__name__)


class Mover:
    """One task that sends whatever has queued up as one batch, then the next.

    Order matters: a later decision counts on the earlier ones. Batching matters: each round trip
    waits for the engine's current step.
    """

    def __init__(self, backend: Backend, done: Callable[[Move, MoveResult], None]) -> None:
        self._backend = backend
        self._done = done
        self._queued: list[Move] = []
        self._wake = asyncio.Event()
        self._busy = False
        self.submitted = 0

    @property
    def idle(self) -> bool:
        return not self._busy and not self._queued

    def submit(self, move: Move) -> None:
        self.submitted += 1
        self._queued.append(move)
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._queued = self._queued, []
            self._busy = True
            results = await self._apply(batch)
            self._busy = False
            for move, result in zip(batch, results, strict=True):
                self._done(move, result)

    async def _apply(self, batch: list[Move]) -> list[MoveResult]:
        try:
            return await self._backend.apply(batch)
        except EngineUnavailable as error:
            return [MoveResult(0.0, error.detail)] * len(batch)
        except Exception as error:  # a bug in a backend must not end this task
            logger.exception("carrying out %d moves broke", len(batch))
            return [MoveResult(0.0, type(error).__name__)] * len(batch)
