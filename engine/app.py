"""Composition root: one engine with its registry, cache and application, started and stopped."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry

from engine.api.dynamo import create_dynamo_router
from engine.api.lora import create_lora_router
from engine.api.probe import create_probe_router
from engine.api.server_settings import create_settings_router
from engine.bootstrap.background import run_in_background
from engine.bootstrap.cache import Cache, SupervisedCache, create_supervised_cache
from engine.bootstrap.engine_observer import EngineObserver
from engine.bootstrap.history import ServerHistory, open_history
from engine.bootstrap.registry import LocalRegistry, ServedModel, open_database, open_registry
from engine.bootstrap.telemetry import Telemetry
from engine.bootstrap.trace import ServerTrace, create_trace
from engine.cache.controller import CacheController
from engine.console.router import create_console_router
from engine.gateway.model_list import model_list
from engine.gateway.request_leases import RequestLeases
from engine.history.recorder import HistoryRecorder
from engine.http.health import create_health_router
from engine.http.middleware import create_guards
from engine.http.uvicorn_protocol import create_http_protocol
from engine.operations.module_naming import EngineNaming
from engine.operations.named_adapters import NamedAdapters
from engine.operations.probe import Probe
from engine.operations.promotion import EnginePromotion
from engine.resolver import check_base
from engine.settings import EngineSettings
from engine.vllm.app import EngineBinding, build_application
from engine.vllm.engine_client import LeasedAsyncLLM
from engine.vllm.process import VllmProcess, VllmStarter
from engine.vllm.responses.stored import StoredResponses
from engine.vllm.scoring import create_prompt_score
from engine.vllm.supervisor import EngineSupervisor
from engine.vllm.token_costs.environment import environment_read_once
from registry.servers import default_server_id
from registry.service import RegistryService
from registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Server:
    """A running engine with its controller, and the application that serves it."""

    app: FastAPI
    supervisor: EngineSupervisor[VllmProcess]
    cache: Cache
    service: RegistryService
    promotion: EnginePromotion
    probe: Probe
    freeze_metrics: Callable[[], AbstractContextManager[None]]
    metrics_registry: CollectorRegistry
    http: type[asyncio.Protocol]  # uvicorn's HTTP protocol: `http` of its configuration
    recorder: HistoryRecorder | None  # of the cache's history
    responses: StoredResponses

    @property
    def controller(self) -> CacheController:
        return self.cache.controller

    async def check_base(self, reference: str) -> None:
        """See `fleet.replica.server`."""
        await check_base(self.service.catalog, reference)

    async def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """See `VllmBackend.places`. Raises EngineUnavailable."""
        return await self.supervisor.process.backend.places(tensors)

    def holds_response(self, tenant: str | None, response_id: str) -> bool:
        return self.responses.holds(tenant, response_id)

    @property
    def engine(self) -> LeasedAsyncLLM:
        """The current one. Raises EngineUnavailable."""
        return self.supervisor.process.engine


@asynccontextmanager
async def run_server(
    arguments: Namespace,
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    *,
    replica: str | None = None,
) -> AsyncIterator[Server]:
    """Start registry, engine and controller; stop them in the reverse order on the way out.

    `replica`: the name for its history, of one whose ingress resolves references and stores pins.
    """
    is_replica = replica is not None
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(arguments, settings)
        stack.callback(telemetry.close)
        metrics = telemetry.registry
        # before the engine, which takes a minute: a database that can't be used is found first
        database = await stack.enter_async_context(open_database(registry_settings, metrics))
        starter = VllmStarter(arguments, settings.host_cache_bytes)
        starting = EngineSupervisor(starter.start, telemetry.cache).running()
        supervisor = await stack.enter_async_context(starting)
        stack.enter_context(environment_read_once())
        model = await _served_model(arguments, supervisor)
        server = default_server_id(registry_settings.database_url, arguments.port)
        opening = open_registry(database, registry_settings, metrics, model, server)
        registry = await stack.enter_async_context(opening)
        residency = await registry.open_residency(is_replica=is_replica)
        store, name = registry_settings.store, replica or registry.server_id
        trace = create_trace(arguments, settings, store, name, is_replica=is_replica)
        history = await open_history(database, settings, name, metrics.on_history_dropped)
        supervised = create_supervised_cache(
            arguments,
            settings,
            supervisor,
            telemetry.cache,
            registry.service,
            residency,
            create_prompt_score(lambda: supervisor.process.engine),
            observers=(*telemetry.observers, *trace.observers, *history.observers),
            tenancy=registry.tenants.tenancy,
        )
        if not is_replica:
            telemetry.add_rate_gauges(registry.tenants)
        cache = supervised.cache
        registry.service.set_usage_check(cache.uses)
        registry.service.set_serving_engine(supervised.promotion)
        app = await _build_app(
            arguments,
            settings,
            registry_settings,
            telemetry,
            supervisor,
            registry,
            supervised,
            trace,
            history,
            is_replica=is_replica,
        )
        admission = RequestLeases(cache.controller, telemetry.cache, telemetry.cache.tenants)
        responses = StoredResponses(
            settings.max_stored_responses, settings.max_stored_responses_bytes
        )
        limits = settings.grammar_limits()
        binding = EngineBinding(app, arguments, admission, limits, responses)
        observer = EngineObserver(supervisor, binding, cache)
        await observer.bind()
        work = [
            *trace.work(),
            *history.work(cache.controller.snapshot),
            *cache.work(),
            supervisor.run(observer),
            telemetry.create_registry_gauges(database).run(),
        ]
        await stack.enter_async_context(run_in_background(app, [*work, *registry.work(app)]))
        await cache.preload(settings.preload)
        yield Server(
            app,
            supervisor,
            cache,
            registry.service,
            supervised.promotion,
            supervised.probe,
            telemetry.cache.freeze_gauges,
            REGISTRY,
            create_http_protocol(settings),
            history.recorder,
            responses,
        )


async def _served_model(
    arguments: Namespace, supervisor: EngineSupervisor[VllmProcess]
) -> ServedModel:
    naming = EngineNaming(lambda tensors: supervisor.process.backend.places(tensors))  # noqa: PLW0108  # that process may be replaced
    return ServedModel(
        arguments.model,
        arguments.served_model_name or [arguments.model],
        await supervisor.process.backend.served_modules(naming),
        arguments.max_lora_rank,
        arguments.revision,
    )


async def _build_app(
    arguments: Namespace,
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    telemetry: Telemetry,
    supervisor: EngineSupervisor[VllmProcess],
    registry: LocalRegistry,
    supervised: SupervisedCache,
    trace: ServerTrace,
    history: ServerHistory,
    *,
    is_replica: bool,
) -> FastAPI:
    cache, service, tenants = supervised.cache, registry.service, registry.tenants

    async def check_engine() -> None:
        if (why := supervised.unavailable()) is not None:
            raise why
        await supervisor.process.engine.check_health()

    named = NamedAdapters(
        service, registry.ingest, cache.controller.load_into_host, supervised.promotion
    )
    return await build_application(
        supervisor.process.engine,
        arguments,
        unavailable=supervised.unavailable,
        resolver=cache.resolver,
        counter=telemetry.cache,
        tracing=telemetry.tracing,
        metrics_route=telemetry.metrics_route(),
        models=model_list(service, cache.resolver),
        routers=[
            *registry.routers(cache.controller.tenants.usage),
            create_probe_router(supervised.probe, cache.resolver),
            create_lora_router(named),
            create_dynamo_router(named, service.catalog.served_references, service.names.served),
            *cache.routers(registry.events.decision_streams, tenants.grants.of),
            trace.router(),
            history.router(),
            create_health_router(
                {"engine": check_engine, "database": service.ping, "store": service.check_store}
            ),
            create_settings_router(registry_settings, settings, arguments, service),
            create_console_router(),
        ],
        guards=create_guards(
            settings,
            registry_settings,
            registry.keys,
            telemetry.registry.on_key_refusal,
            arguments.allowed_origins,
            rates=None if is_replica else tenants.rates,
        ),
        in_flight=tenants.in_flight,
        max_body_bytes=settings.max_body_bytes,
        max_body_values=settings.max_body_values,
        default_adapter=settings.default_adapter,
        trace=trace.requests,
        silent_speaker_seconds=settings.silent_speaker_seconds,
    )
