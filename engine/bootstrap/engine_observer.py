"""Engine observer: keeps cache and application in step with what becomes of the engine."""

import asyncio

from engine.bootstrap.cache import Cache
from engine.errors import EngineUnavailable
from engine.vllm.app import EngineBinding
from engine.vllm.process import VllmProcess
from engine.vllm.supervisor import EngineSupervisor


class EngineObserver:
    """Implements the supervisor's `EngineObserver`, and the engine's `SleepListener`."""

    def __init__(
        self, supervisor: EngineSupervisor[VllmProcess], binding: EngineBinding, cache: Cache
    ) -> None:
        self._supervisor = supervisor
        self._binding = binding
        self._cache = cache
        self._warming: asyncio.Task[None] | None = None

    async def on_engine_lost(self, why: EngineUnavailable) -> None:
        await self._cache.on_engine_lost(why)

    async def on_engine_ready(self) -> None:
        await self.bind()
        await self.on_wake()

    async def bind(self) -> None:
        engine = self._supervisor.process.engine
        engine.sleep_listener = self
        await self._binding.bind(engine)

    async def on_sleep(self, why: EngineUnavailable) -> None:
        await self._cache.on_engine_lost(why)
        await self._supervisor.process.backend.clear()

    async def on_wake(self) -> None:
        self._cache.controller.on_engine_ready()
        self._warming = asyncio.create_task(self._cache.warm_up.reload())
