"""One stock vLLM server as a replica: our controller over its routes."""

from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from engine.bootstrap.cache import Cache, create_supervised_cache
from engine.bootstrap.history import ServerHistory
from engine.cache.controller import CacheController
from engine.errors import EngineUnavailable
from engine.gateway.model_list import model_list
from engine.history.recorder import HistoryRecorder
from engine.operations.probe import Probe, Score
from engine.operations.promotion import EnginePromotion
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion
from engine.vllm.supervisor import EngineSupervisor
from fleet.messages import EngineFacts
from fleet.replica.replica import Replica
from fleet.stock.accounts import StockAccounts
from fleet.stock.application import StockApplication
from fleet.stock.base_check import BaseCheck
from fleet.stock.client import StockVllm
from fleet.stock.process import StockStarter
from registry.database.engine import Database
from registry.residency import ReplicaResidencyStore
from registry.service import RegistryService

Work = Coroutine[None, None, None]

_PROBE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class StockSizes:
    """`--max-loras`, `--max-cpu-loras` and `--max-lora-rank`, which no route reports."""

    slots: int
    host_capacity: int
    max_rank: int


@dataclass(frozen=True, slots=True)
class StockServer:
    """Implements `fleet.replica.server.ReplicaServer`."""

    app: StockApplication
    cache: Cache
    promotion: EnginePromotion
    probe: Probe
    freeze_metrics: Callable[[], AbstractContextManager[None]]
    metrics_registry: CollectorRegistry
    recorder: HistoryRecorder | None

    @property
    def controller(self) -> CacheController:
        return self.cache.controller

    async def check_base(self, reference: str) -> None:
        """The ingress is in this process, and `BaseCheck` has compared the server with it."""

    def holds_response(self, tenant: str | None, response_id: str) -> bool:
        """None is asked for there: see `fleet.stock.application`."""
        return False

    async def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """No route of a stock vLLM tells."""
        raise EngineUnavailable("a stock vLLM can't be asked for its modules")


@asynccontextmanager
async def run_stock_replica(
    name: str,
    server: StockVllm,
    sizes: StockSizes,
    facts: EngineFacts,
    settings: EngineSettings,
    service: RegistryService,
    database: Database,
    open_history: Callable[[], Awaitable[ServerHistory]],
    *,
    is_base_declared: bool = False,
) -> AsyncIterator[tuple[Replica, Sequence[Work]]]:
    """The replica, once its server answers, and the background work to run beside it.

    `open_history` is called then: of the time before, nothing is known. `is_base_declared`: the
    operator vouches for the server's base model.
    """
    async with AsyncExitStack() as stack:
        registry = CollectorRegistry()
        metrics = CacheMetrics(
            registry,
            model_name=facts.served_names[0],
            max_adapter_labels=settings.max_adapter_labels,
        )
        stack.callback(metrics.close)
        base = BaseCheck(service.base_model.identity, is_base_declared)
        starter = StockStarter(server, sizes.slots, base)
        starting = EngineSupervisor(starter.start, metrics).running()
        supervisor = await stack.enter_async_context(starting)
        history = await open_history()
        supervised = create_supervised_cache(
            Namespace(
                max_loras=sizes.slots,
                max_cpu_loras=sizes.host_capacity,
                max_lora_rank=sizes.max_rank,
            ),
            settings,
            supervisor,
            metrics,
            service,
            ReplicaResidencyStore(database, name),
            _score(server, facts),
            observers=history.observers,
        )
        cache = supervised.cache
        app = StockApplication(
            server,
            cache.controller,
            cache.resolver,
            metrics,
            base_models=facts.served_names,
            models=model_list(service, cache.resolver),
            max_body_bytes=settings.max_body_bytes,
            max_body_values=settings.max_body_values,
            default_adapter=settings.default_adapter,
            stalled_reader_seconds=settings.stalled_reader_seconds,
            accounts=StockAccounts(metrics, metrics.tenants),
        )
        stock_server = StockServer(
            app,
            cache,
            supervised.promotion,
            supervised.probe,
            metrics.freeze_gauges,
            registry,
            history.recorder,
        )
        observer = _EngineObserver(cache)
        silent = settings.silent_request_seconds()
        replica = Replica(name, stock_server, facts, silent_seconds=silent)
        work = [*cache.work(), supervisor.run(observer)]
        yield replica, [*history.work(cache.controller.snapshot), *work]


def _score(server: StockVllm, facts: EngineFacts) -> Score:
    async def score(version: AdapterVersion | None) -> Sequence[float]:
        name = facts.served_names[0] if version is None else version.engine_name
        return await server.prompt_log_probabilities(name, list(range(1, _PROBE_TOKENS)))

    return score


class _EngineObserver:
    """Handles the loss and the return of the server, which then holds no adapter of ours."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def on_engine_lost(self, why: EngineUnavailable) -> None:
        await self._cache.on_engine_lost(why)

    async def on_engine_ready(self) -> None:
        self._cache.controller.on_engine_ready()
        await self._cache.warm_up.reload()
