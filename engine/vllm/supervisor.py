"""Engine supervisor: detects that an engine died or hangs, stops it, and starts the next one."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, Self, TypeVar

from engine.errors import EngineDied, EngineUnavailable
from engine.policy.decisions import Move
from engine.ports import Backend, EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, VersionId

logger = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.0, 2.0, 10.0, 30.0)  # before each attempt to restart


class EngineProcess(Protocol):
    """One engine, from its start to its end."""

    @property
    def backend(self) -> Backend: ...

    @property
    def is_dead(self) -> bool: ...

    @property
    def suspended(self) -> EngineUnavailable | None:
        """Why an operator lets it serve no request now."""

    @property
    def sleeps(self) -> bool:
        """An operator has put it to sleep, and it answers calls."""

    async def wait_for_death(self) -> str:
        """Returns the cause."""

    def shut_down(self, timeout_seconds: float | None) -> None:
        """Wait until running generations finish, or the timeout. Not to be called on the loop."""

    def kill(self) -> None:
        """Immediately. What waits for its end goes on."""

    async def stop(self) -> None:
        """Leave nothing of it running, whatever state it is in."""


Process = TypeVar("Process", bound=EngineProcess)


class EngineObserver(Protocol):
    """Is notified when the supervisor replaces an engine."""

    async def on_engine_lost(self, why: EngineUnavailable) -> None: ...

    async def on_engine_ready(self) -> None:
        """The supervisor's engine is a new one, which holds no adapter yet."""


class EngineCounter(Protocol):
    def count_engine_end(self, cause: str) -> None:
        """`cause`: `died` or `hung`."""


class EngineSupervisor(Generic[Process]):
    """Implements the `Backend` port over the current engine."""

    def __init__(
        self,
        start: Callable[[], Awaitable[Process]],
        counter: EngineCounter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start_process = start
        self._counter = counter
        self._clock = clock
        self._process: Process | None = None
        self._silent = asyncio.Event()
        self._start_seconds = 60.0
        self._stopping = False

    @property
    def process(self) -> Process:
        """Raises EngineUnavailable while there is none."""
        if self._process is None:
            raise EngineDied("it is being started again")
        return self._process

    @property
    def unavailable(self) -> EngineUnavailable | None:
        """Why the engine can't be used, None if it can. Set before any observer is notified."""
        seconds = math.ceil(self._start_seconds)
        if self._stopping:  # what it generates may still end
            return EngineUnavailable("the server is being stopped", retry_after_seconds=seconds)
        if self._process is not None and not self._process.is_dead:
            return self._process.suspended
        return EngineUnavailable("it is being started again", retry_after_seconds=seconds)

    def sleeps(self) -> bool:
        return self._process is not None and self._process.sleeps

    async def start(self) -> None:
        """Start an engine. Raises what its start raises."""
        started = self._clock()
        self._process = await self._start_process()
        self._start_seconds = self._clock() - started

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """From the start of its first engine to the end of its last. Raises what a start raises."""
        try:
            await self.start()
            yield self
        finally:
            await self.stop()

    def shut_down(self, timeout_seconds: float | None) -> None:
        """The server stops: no request is admitted, and running ones may finish until the timeout.

        Blocks until then; to be called on another thread than the loop's.
        """
        self._stopping = True
        if (process := self._process) is not None:
            process.shut_down(timeout_seconds)

    def kill(self) -> None:
        """Do not wait for running generations any longer."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
        self._process = None

    def report_silence(self) -> None:
        """The engine has not answered for too long."""
        self._silent.set()

    async def run(self, observer: EngineObserver) -> None:
        """Replace engines that end, until cancelled. Raises EngineUnavailable if none starts."""
        while True:
            cause, reason = await self._wait_for_end()
            ended, self._process = self.process, None
            if not self._stopping:
                logger.error("the engine has %s: %s", cause, reason)
                self._counter.count_engine_end(cause)
            why = self.unavailable or EngineUnavailable(reason)
            await observer.on_engine_lost(why)
            await ended.stop()
            if self._stopping:
                await asyncio.Event().wait()  # the server stops, and cancels this task
            await self._restart()
            await observer.on_engine_ready()
            logger.warning("the engine serves again after %.0f s", self._start_seconds)

    async def _wait_for_end(self) -> tuple[str, str]:
        """Cause and reason."""
        self._silent.clear()
        death = asyncio.create_task(self.process.wait_for_death())
        silence = asyncio.create_task(self._silent.wait())
        try:
            await asyncio.wait({death, silence}, return_when=asyncio.FIRST_COMPLETED)
            return ("died", death.result()) if death.done() else ("hung", "no answer")
        finally:
            death.cancel()
            silence.cancel()

    async def _restart(self) -> None:
        for pause in _PAUSES_SECONDS:
            await asyncio.sleep(pause)
            try:
                await self.start()
            except Exception:
                logger.exception("the engine did not start")
            else:
                return
        raise EngineUnavailable(f"it did not start in {len(_PAUSES_SECONDS)} attempts")

    # ---- the Backend port ----------------------------------------------------------------

    async def load(self, version: AdapterVersion) -> Loaded:
        return await self.process.backend.load(version)

    def discard(self, version: VersionId) -> None:
        if self._process is not None:
            self._process.backend.discard(version)

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        return await self.process.backend.apply(moves)

    async def engine_state(self) -> EngineState:
        return await self.process.backend.engine_state()
