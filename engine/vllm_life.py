"""One vLLM engine from its start to its end, for the supervisor."""

import asyncio
from argparse import Namespace
from contextlib import AsyncExitStack

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from engine.vllm_backend import LeasedAsyncLLM, VllmBackend, connected_backend

_LOOK_SECONDS = 0.2


class VllmLife:
    """Implements the `Life` port."""

    def __init__(self, engine: LeasedAsyncLLM, backend: VllmBackend, stack: AsyncExitStack) -> None:
        self.engine = engine
        self.backend = backend
        self._stack = stack

    async def death(self) -> str:
        while not self.engine.errored:
            await asyncio.sleep(_LOOK_SECONDS)
        return str(self.engine.dead_error)

    async def end(self) -> None:
        await self._stack.aclose()


class VllmStarter:
    """Starts engines with the same arguments, one after the other."""

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._is_first = True

    async def start(self) -> VllmLife:
        """The first one on this thread, so that Ctrl-C ends it; later ones beside what is served.

        Raises what vLLM raises, or EngineUnavailable.
        """
        async with AsyncExitStack() as stack:
            if self._is_first:
                engine = self._engine()
            else:
                engine = await asyncio.to_thread(self._engine)
            stack.push_async_callback(asyncio.to_thread, engine.shutdown)
            backend = await stack.enter_async_context(connected_backend(engine))
            self._is_first = False
            return VllmLife(engine, backend, stack.pop_all())

    def _engine(self) -> LeasedAsyncLLM:
        config = AsyncEngineArgs.from_cli_args(self._arguments).create_engine_config(
            usage_context=UsageContext.OPENAI_API_SERVER
        )
        engine: LeasedAsyncLLM = LeasedAsyncLLM.from_vllm_config(
            config,
            usage_context=UsageContext.OPENAI_API_SERVER,
            enable_log_requests=self._arguments.enable_log_requests,
            disable_log_stats=self._arguments.disable_log_stats,
        )
        return engine
