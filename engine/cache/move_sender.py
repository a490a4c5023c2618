"""Sends moves to the backend in the order decided, each batch at once."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from engine.errors import EngineGone, EngineUnavailable
from engine.policy.decisions import Move
from engine.ports import Backend, MoveResult

logger = logging.getLogger(__name__)


class MoveSender:
    """Never waits for one batch before it sends the next: the engine keeps their order.

    Each round trip ends with the engine's current step, so waiting would cost a step.
    """

    def __init__(self, backend: Backend, done: Callable[[Move, MoveResult], None]) -> None:
        self._backend = backend
        self._done = done
        self._under_way: set[asyncio.Task[None]] = set()
        self.moves_submitted = 0
        self._unsent = 0

    @property
    def is_idle(self) -> bool:
        return not self._under_way

    def submit(self, moves: Sequence[Move]) -> None:
        self.moves_submitted += len(moves)
        self._under_way.add(asyncio.create_task(self._carry(list(moves))))
        self._unsent += 1
        asyncio.get_running_loop().call_soon(self._was_sent)  # after the task's first turn

    def _was_sent(self) -> None:
        self._unsent -= 1

    async def wait_until_sent(self) -> None:
        """The engine has been handed all moves so far: whatever it is asked next comes after."""
        if self._unsent:
            await asyncio.sleep(0)

    async def _carry(self, moves: list[Move]) -> None:
        results = await self._apply(moves)
        task = asyncio.current_task()
        self._under_way = {other for other in self._under_way if other is not task}
        for move, result in zip(moves, results, strict=True):
            self._done(move, result)

    async def _apply(self, moves: list[Move]) -> list[MoveResult]:
        try:
            return await self._backend.apply(moves)
        except EngineUnavailable as error:
            gone = isinstance(error, EngineGone)
            return [MoveResult(0.0, error.detail, engine_gone=gone)] * len(moves)
        except Exception as error:  # a bug in a backend must not lose the moves' waiters
            logger.exception("carrying out %d moves broke", len(moves))
            return [MoveResult(0.0, type(error).__name__)] * len(moves)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Forget what is under way. Returns what is ending."""
        ending = list(self._under_way)
        for task in ending:
            task.cancel()
        self._under_way = set()
        return ending
