"""Move sender: sends moves to the backend in the order decided, each batch immediately."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from engine.errors import EngineDied, EngineUnavailable
from engine.policy.decisions import Move
from engine.ports import Backend, MoveResult
from engine.types import VersionId

logger = logging.getLogger(__name__)


class MoveSender:
    """Never waits for one batch before it sends the next: the engine preserves their order.

    Each round trip ends with the engine's current step, so waiting would cost a step.
    """

    def __init__(self, backend: Backend, on_done: Callable[[Move, MoveResult], None]) -> None:
        self._backend = backend
        self._on_done = on_done
        self._in_flight: dict[asyncio.Task[None], Sequence[Move]] = {}
        self._records: list[set[VersionId]] = []
        self.moves_submitted = 0
        self._unsent = 0

    @property
    def is_idle(self) -> bool:
        return not self._in_flight

    @property
    def has_sent_all(self) -> bool:
        return not self._unsent

    def submit(self, moves: Sequence[Move]) -> None:
        self.moves_submitted += len(moves)
        for record in self._records:
            record.update(move.version for move in moves)
        self._in_flight[asyncio.create_task(self._send(list(moves)))] = moves
        self._unsent += 1
        asyncio.get_running_loop().call_soon(self._on_sent)  # after the task's first step

    def _on_sent(self) -> None:
        self._unsent -= 1

    @contextmanager
    def record_moved(self) -> Iterator[set[VersionId]]:
        """The versions with a move in flight now, or submitted until the block ends."""
        record = {move.version for moves in self._in_flight.values() for move in moves}
        self._records.append(record)
        try:
            yield record
        finally:
            self._records = [other for other in self._records if other is not record]

    async def wait_until_sent(self) -> None:
        """Until the engine has all moves so far: every later call to it comes after them."""
        if self._unsent:
            await asyncio.sleep(0)

    async def _send(self, moves: list[Move]) -> None:
        results = await self._apply(moves)
        task = asyncio.current_task()
        if task is not None:
            self._in_flight.pop(task, None)
        for move, result in zip(moves, results, strict=True):
            self._on_done(move, result)

    async def _apply(self, moves: list[Move]) -> list[MoveResult]:
        try:
            return await self._backend.apply(moves)
        except EngineUnavailable as error:
            died = isinstance(error, EngineDied)
            return [MoveResult(0.0, error.detail, engine_died=died)] * len(moves)
        except Exception as error:  # a bug in a backend must not lose the moves' waiters
            logger.exception("executing %d moves failed", len(moves))
            return [MoveResult(0.0, type(error).__name__)] * len(moves)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Cancel and forget the batches in flight. Returns their tasks, which are cancelled."""
        cancelled = list(self._in_flight)
        for task in cancelled:
            task.cancel()
        self._in_flight = {}
        return cancelled
