"""Keeps an engine serving: notices its death or silence, ends what is left, starts the next one."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from engine.errors import EngineGone, EngineUnavailable
from engine.policy.decisions import Move
from engine.ports import Backend, EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, VersionId

logger = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.0, 2.0, 10.0, 30.0)  # before each attempt to start again


class Life(Protocol):
    """One engine, from its start to its end."""

    @property
    def backend(self) -> Backend: ...

    @property
    def is_dead(self) -> bool: ...

    async def death(self) -> str:
        """Returns what it died of, when it has."""

    def shut_down(self, timeout_seconds: float | None) -> None:
        """Let what it generates end, for so long. Blocks; for another thread than the loop's."""

    def kill(self) -> None:
        """At once. Whoever waits for its end goes on."""

    async def end(self) -> None:
        """Leave nothing of it running, whatever state it is in."""


OneLife = TypeVar("OneLife", bound=Life)


class Follower(Protocol):
    """Lives with one engine after the other."""

    async def engine_lost(self, why: EngineUnavailable) -> None: ...

    async def engine_ready(self) -> None:
        """The supervisor's engine is a new one, which holds nothing yet."""


class EngineCounter(Protocol):
    def count_engine_end(self, cause: str) -> None:
        """`cause`: `died` or `hung`."""


class EngineSupervisor(Generic[OneLife]):
    """Implements the `Backend` port over the engine that lives now."""

    def __init__(
        self,
        start: Callable[[], Awaitable[OneLife]],
        counter: EngineCounter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._counter = counter
        self._clock = clock
        self._life: OneLife | None = None
        self._silent = asyncio.Event()
        self._start_seconds = 60.0
        self._stopping = False

    @property
    def life(self) -> OneLife:
        """Raises EngineUnavailable while there is none."""
        if self._life is None:
            raise EngineGone("it is being started again")
        return self._life

    @property
    def unavailable(self) -> EngineUnavailable | None:
        """Why the engine can't be asked anything, if that is so. True before anybody was told."""
        seconds = math.ceil(self._start_seconds)
        if self._stopping:  # what it generates may still end
            return EngineUnavailable("the server is being stopped", retry_after_seconds=seconds)
        if self._life is not None and not self._life.is_dead:
            return None
        return EngineUnavailable("it is being started again", retry_after_seconds=seconds)

    async def begin(self) -> None:
        """Start the first engine. Raises what its start raises."""
        started = self._clock()
        self._life = await self._start()
        self._start_seconds = self._clock() - started

    def shut_down(self, timeout_seconds: float | None) -> None:
        """The server ends: nobody comes in, and whoever is in may go on for so long.

        Blocks until then; for another thread than the loop's.
        """
        self._stopping = True
        if (life := self._life) is not None:
            life.shut_down(timeout_seconds)

    def hurry(self) -> None:
        """Wait no longer for what is still generated."""
        if self._life is not None:
            self._life.kill()

    async def end(self) -> None:
        if self._life is not None:
            await self._life.end()
        self._life = None

    def report_silence(self) -> None:
        """It has not answered for too long."""
        self._silent.set()

    async def run(self, follower: Follower) -> None:
        """Replace engines that end, until cancelled. Raises EngineUnavailable if none starts."""
        while True:
            cause, reason = await self._end_of_life()
            ended, self._life = self.life, None
            if not self._stopping:
                logger.error("the engine has %s: %s", cause, reason)
                self._counter.count_engine_end(cause)
            why = self.unavailable or EngineUnavailable(reason)
            await follower.engine_lost(why)
            await ended.end()
            if self._stopping:
                await asyncio.Event().wait()  # the server ends, and this task with it
            await self._start_again()
            await follower.engine_ready()
            logger.warning("the engine serves again after %.0f s", self._start_seconds)

    async def _end_of_life(self) -> tuple[str, str]:
        self._silent.clear()
        death = asyncio.create_task(self.life.death())
        silence = asyncio.create_task(self._silent.wait())
        try:
            await asyncio.wait({death, silence}, return_when=asyncio.FIRST_COMPLETED)
            return ("died", death.result()) if death.done() else ("hung", "no answer")
        finally:
            death.cancel()
            silence.cancel()

    async def _start_again(self) -> None:
        for pause in _PAUSES_SECONDS:
            await asyncio.sleep(pause)
            try:
                await self.begin()
            except Exception:
                logger.exception("the engine did not start")
            else:
                return
        raise EngineUnavailable(f"it did not start in {len(_PAUSES_SECONDS)} attempts")

    # ---- the Backend port ----------------------------------------------------------------

    async def load(self, version: AdapterVersion) -> Loaded:
        return await self.life.backend.load(version)

    def discard(self, version: VersionId) -> None:
        if self._life is not None:
            self._life.backend.discard(version)

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        return await self.life.backend.apply(moves)

    async def engine_state(self) -> EngineState:
        return await self.life.backend.engine_state()
