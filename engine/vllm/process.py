"""vLLM engine process: starts an engine for the supervisor, and stops it."""

import asyncio
import logging
from argparse import Namespace
from collections.abc import Set
from contextlib import AsyncExitStack
from multiprocessing import active_children
from multiprocessing.process import BaseProcess

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.vllm.backend import VllmBackend, connect_backend
from engine.vllm.engine_client import LeasedAsyncLLM
from engine.worker.parent_watch import bind_engine_lifetime

_POLL_SECONDS = 0.2
_JOIN_SECONDS = 5.0


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Filters out that vLLM logs the end of an engine that it has shut down itself as an error."""
    return record.exc_info is None or not isinstance(record.exc_info[1], EngineDeadError)


class VllmProcess:
    """Implements the `EngineProcess` port."""

    def __init__(
        self,
        engine: LeasedAsyncLLM,
        backend: VllmBackend,
        processes: Set[BaseProcess],
        stack: AsyncExitStack,
    ) -> None:
        self.engine = engine
        self.backend = backend
        self._processes = processes
        self._stack = stack
        self._loop = asyncio.get_running_loop()

    @property
    def is_dead(self) -> bool:
        """An engine that can load no adapter any more counts as dead."""
        return bool(self.engine.errored) or self.backend.lost is not None

    @property
    def suspended(self) -> EngineUnavailable | None:
        return self.engine.suspended

    @property
    def sleeps(self) -> bool:
        return self.engine.sleeps

    async def wait_for_death(self) -> str:
        while not self.is_dead:
            await asyncio.sleep(_POLL_SECONDS)
        if not self.engine.errored:
            await asyncio.sleep(_POLL_SECONDS)  # if the worker died, vLLM notices too
        return str(self.engine.dead_error if self.engine.errored else self.backend.lost)

    def shut_down(self, timeout_seconds: float | None) -> None:
        logging.getLogger(AsyncLLM.__module__).addFilter(_is_unexpected)
        self.engine.shutdown(timeout_seconds)
        self._loop.call_soon_threadsafe(self._fail_requests)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()

    def _fail_requests(self) -> None:
        """vLLM fails the requests of an engine only if it has seen that engine die."""
        self.engine.output_processor.propagate_error(EngineDeadError())

    async def stop(self) -> None:
        self._fail_requests()
        await self._stack.aclose()
        for process in self._processes:  # vLLM does not wait for those that it has to kill
            await asyncio.to_thread(process.join, _JOIN_SECONDS)


class VllmStarter:
    """Starts each engine with the same arguments."""

    def __init__(self, arguments: Namespace, host_bytes: int | None) -> None:
        self._arguments = arguments
        self._host_bytes = host_bytes
        self._is_first = True

    async def start(self) -> VllmProcess:
        """The first one on this thread, so that Ctrl-C ends it; later ones on another thread.

        Raises what vLLM raises, or EngineUnavailable.
        """
        before = set(active_children())
        async with AsyncExitStack() as stack:
            if self._is_first:
                engine = self._create_engine()
            else:
                engine = await self._create_engine_in_thread(before)
            stack.push_async_callback(asyncio.to_thread, engine.shutdown)
            backend = await stack.enter_async_context(connect_backend(engine, self._host_bytes))
            self._is_first = False
            processes = set(active_children()) - before
            return VllmProcess(engine, backend, processes, stack.pop_all())

    async def _create_engine_in_thread(self, before: Set[BaseProcess]) -> LeasedAsyncLLM:
        try:
            return await asyncio.to_thread(self._create_engine)
        except asyncio.CancelledError:  # the server stops, and waits for this thread
            for process in set(active_children()) - before:
                process.kill()
            raise

    def _create_engine(self) -> LeasedAsyncLLM:
        config = AsyncEngineArgs.from_cli_args(self._arguments).create_engine_config(
            usage_context=UsageContext.OPENAI_API_SERVER
        )
        with bind_engine_lifetime():
            engine: LeasedAsyncLLM = LeasedAsyncLLM.from_vllm_config(
                config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                enable_log_requests=self._arguments.enable_log_requests,
                disable_log_stats=self._arguments.disable_log_stats,
            )
        return engine
