"""Offline `LLM`: vLLM's, with our cache: any number of adapters, by name, folder or Hub id."""

import asyncio
import os
import tempfile
import weakref
from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import vllm
from prometheus_client import CollectorRegistry
from vllm.lora.request import LoRARequest
from vllm.v1.engine.llm_engine import LLMEngine

from engine.bootstrap.cache import create_cache
from engine.bootstrap.registry import (
    ServedModel,
    create_service,
    open_database,
    open_store,
)
from engine.cache.snapshot import CacheSnapshot
from engine.offline.adapters import ACTOR, OfflineAdapters
from engine.offline.engine import AdmittingEngine, SteppedClient, activate_requests
from engine.offline.private_loop import PrivateLoop
from engine.operations.module_naming import EngineNaming
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.types import Tier
from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import DEFAULT_SLOTS, HOST_ADAPTERS_PER_SLOT, WORKER_EXTENSION
from engine.vllm.backend import connect_backend, lora_request
from registry.auth.client_address import LOCAL, from_address
from registry.database.urls import async_url
from registry.residency import ResidencyStore
from registry.settings import RegistrySettings

_OURS = {
    "enable_lora": "adapters are what it serves",
    "worker_extension_cls": "it carries our cache control",
    "default_mm_loras": "it would load adapters past the cache controller",
}


class LLM(vllm.LLM):  # type: ignore[misc]  # vLLM is untyped here
    """Takes all arguments of `vllm.LLM`, and a string in place of a `LoRARequest`:

    a reference of the registry (`name`, `name@alias`, `name:3`), a folder that PEFT saved, or a Hub
    id (`org/name`, `org/name@revision`). With a list of prompts it may be a list, one for each.

    Without `database` and `store` the registry lasts as long as this object. Raises what vLLM
    raises, and the registry's and the engine's errors (`registry.errors`, `engine.errors`).
    """

    def __init__(
        self,
        model: str,
        *,
        max_loras: int = DEFAULT_SLOTS,
        max_cpu_loras: int | None = None,
        max_lora_rank: int = 16,
        database: str | None = None,
        store: str | Path | None = None,
        settings: EngineSettings | None = None,
        **arguments: Any,
    ) -> None:
        limits = Namespace(
            max_loras=max_loras,
            max_cpu_loras=max_cpu_loras or max_loras * HOST_ADAPTERS_PER_SLOT,
            max_lora_rank=max_lora_rank,
        )
        self._start_vllm(model, limits, arguments)
        self._loop = PrivateLoop()
        self._stack = AsyncExitStack()
        self._finalizer = weakref.finalize(self, _close, self._loop, self._stack)
        self._run(self._open(model, limits, database, store, settings or EngineSettings()))

    def _start_vllm(self, model: str, limits: Namespace, arguments: dict[str, Any]) -> None:
        for name in arguments.keys() & _OURS:
            raise ValueError(f"{name} can't be used here: {_OURS[name]}")
        vllm_compat.check_internals()
        if vllm_compat.is_cpu_build() and arguments.get("tensor_parallel_size", 1) == 1:
            # in this process: another would import the caller's script again
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            arguments.setdefault("distributed_executor_backend", "uni")
        ours = {"enable_lora": True, "worker_extension_cls": WORKER_EXTENSION}
        super().__init__(model, **vars(limits), **ours, **arguments)
        self._engine: LLMEngine = self.llm_engine
        for processor in self._pooling_processors():
            _accept_names(processor, self._lora_request_to_seq)

    async def _open(
        self,
        model: str,
        limits: Namespace,
        database: str | None,
        store: str | Path | None,
        settings: EngineSettings,
    ) -> None:
        engine = self._engine
        self._stack.callback(engine.engine_core.shutdown)
        activate_requests(engine.engine_core)
        state = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-")))
        registry_settings = RegistrySettings(
            database_url=async_url(database or f"sqlite:///{state}/registry.db"),
            store=Path(store or state / "store"),
            source_roots=(Path("/"),),  # the user of this process can read them in any case
        )
        tables = await self._stack.enter_async_context(open_database(registry_settings))
        backend = await self._stack.enter_async_context(
            connect_backend(SteppedClient(engine), settings.host_cache_bytes)
        )
        modules = await backend.served_modules(EngineNaming(backend.places))
        revision = engine.model_config.revision
        served = ServedModel(model, [model], modules, limits.max_lora_rank, revision)
        store_files = await open_store(registry_settings)
        service = await create_service(tables, store_files, served, registry_settings)
        self._metrics = CollectorRegistry()
        self._cache = create_cache(
            limits,
            settings,
            backend,
            CacheMetrics(self._metrics),
            RegistryResolver(service.catalog),
            service,
            ResidencyStore(tables, "offline"),
            report_silence=_nothing,
        )
        self._adapters = OfflineAdapters(service)
        self._stack.push_async_callback(_cancel, asyncio.create_task(self._cache.controller.run()))
        self.llm_engine = AdmittingEngine(
            engine, self._loop, self._cache.controller, self._adapters.by_id
        )

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run(_run_as_local(work))

    def _lora_request_to_seq(
        self,
        lora_request: str | LoRARequest | Sequence[str | LoRARequest | None] | None,
        num_requests: int,
    ) -> Sequence[LoRARequest | None]:
        """vLLM's offline calls use it to find the adapter of each prompt.

        `embed`, `classify`, `score` and `encode` call one of their processors: see `_accept_names`.
        """
        if lora_request is None or isinstance(lora_request, str | LoRARequest):
            handle = self._handle(lora_request)
            return [handle] * num_requests
        handles = [self._handle(adapter) for adapter in lora_request]
        requests: Sequence[LoRARequest | None] = super()._lora_request_to_seq(handles, num_requests)
        return requests

    def _pooling_processors(self) -> Sequence[Any]:
        """vLLM creates the same one for several tasks. A generating engine has none."""
        processors = getattr(self, "pooling_io_processors", None) or {}
        return list({id(each): each for each in processors.values()}.values())

    def _handle(self, adapter: str | LoRARequest | None) -> LoRARequest | None:
        if adapter is None:
            return None
        if isinstance(adapter, LoRARequest) and self._adapters.is_ours(adapter):
            return adapter
        text = adapter if isinstance(adapter, str) else adapter.lora_path
        return lora_request(self._run(self._adapters.version_of(text)))

    # ---- the cache -----------------------------------------------------------------------

    def prefetch(self, adapter: str) -> None:
        """Load it into host memory. Returns when it is loaded."""
        version = self._run(self._adapters.version_of(adapter))
        self._run(self._cache.controller.load_into_host(version))

    def pin(self, adapter: str, tier: Tier | str = Tier.GPU) -> None:
        """Load it and keep it in the tier. Raises PinBudgetExceeded."""
        version = self._run(self._adapters.version_of(adapter))
        self._run(self._cache.pins.pin(version, Tier(tier), actor=ACTOR))

    def unpin(self, adapter: str) -> None:
        """Allow its eviction again. Raises NotPinned."""
        version = self._run(self._adapters.version_of(adapter))
        self._run(self._cache.pins.unpin(version, actor=ACTOR))

    def cache(self) -> CacheSnapshot:
        """The residents of each tier, the next victim first."""
        return self._cache.controller.snapshot()

    def cache_metrics(self) -> dict[str, float]:
        """Every counter and gauge of the cache, by its name and labels as on `/metrics`."""
        return {
            f"{sample.name}{_labels(sample.labels)}": sample.value
            for family in self._metrics.collect()
            for sample in family.samples
        }

    def close(self) -> None:
        """Release everything; done at the latest when the process ends."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _accept_names(processor: Any, to_seq: Callable[[Any, int], Sequence[Any]]) -> None:
    """Let a processor of pooled requests find adapters as the other offline calls do."""
    processor._lora_request_to_seq = to_seq


def _labels(labels: dict[str, str]) -> str:
    shown = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{shown}}}" if shown else ""


async def _run_as_local(work: Coroutine[Any, Any, Any]) -> Any:
    """Its changes are recorded as made on this machine."""
    with from_address(LOCAL):
        return await work


def _close(loop: PrivateLoop, stack: AsyncExitStack) -> None:
    loop.run(stack.aclose())
    loop.close()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _nothing() -> None:
    """There is no supervisor to replace an engine that hangs: the caller waits for it."""
