"""Puts the parts together and takes them apart again: registry, engine, cache, application."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.middleware import Middleware

from engine.api.lora import create_lora_router
from engine.api.probe import create_probe_router
from engine.bootstrap.background import background, is_stopping
from engine.bootstrap.cache import Cache, make_cache
from engine.bootstrap.registry import (
    open_database,
    open_ingest,
    open_service,
    open_store,
    quarantine,
)
from engine.bootstrap.telemetry import Observing
from engine.bootstrap.tenancy import TenantParts
from engine.cache.controller import CacheController
from engine.console.router import create_console_router
from engine.errors import EngineUnavailable
from engine.gateway.pinned_resolver import ResolvedBefore
from engine.gateway.request_context import Leasing
from engine.http.body_limits import body_guard
from engine.http.health import create_health_router
from engine.http.middleware import guarding
from engine.http.uvicorn_protocol import guarded_http
from engine.operations.named_adapters import NamedAdapters
from engine.operations.probe import Probe
from engine.operations.promotion import EnginePromotion
from engine.operations.quarantine import Quarantine
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.vllm.app import EngineBinding, build_application
from engine.vllm.engine_client import LeasedAsyncLLM
from engine.vllm.process import VllmLife, VllmStarter
from engine.vllm.scoring import prompt_score
from engine.vllm.supervisor import EngineSupervisor
from registry.api.ingest import create_ingest_router
from registry.api.keys import create_key_router
from registry.api.router import create_router
from registry.api.tenants import create_tenant_router
from registry.auth.keys import KeyService
from registry.events.postgres_notify import ChangeNotices
from registry.notifications import EventParts, event_parts
from registry.residency import ReplicaResidencyStore, ResidencyStore
from registry.service import RegistryService
from registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Server:
    """A running engine with its controller, and the application that serves it."""

    app: FastAPI
    supervisor: EngineSupervisor[VllmLife]
    cache: Cache
    service: RegistryService
    promoting: EnginePromotion
    probe: Probe
    freeze_metrics: Callable[[], AbstractContextManager[None]]
    metrics_registry: CollectorRegistry
    http: type[asyncio.Protocol]
    """How uvicorn is to read requests: `http` of its configuration."""

    @property
    def controller(self) -> CacheController:
        return self.cache.controller

    @property
    def engine(self) -> LeasedAsyncLLM:
        """The one that lives now. Raises EngineUnavailable."""
        return self.supervisor.life.engine


@asynccontextmanager
async def running_server(
    arguments: Namespace,
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    *,
    is_replica: bool = False,
) -> AsyncIterator[Server]:
    """Start registry, engine and controller; stop them in the reverse order on the way out.

    `is_replica`: an ingress resolves references and stores pins.
    """
    async with AsyncExitStack() as stack:
        observing = Observing(arguments, settings)
        stack.callback(observing.close)
        metrics = observing.cache
        database = await stack.enter_async_context(
            open_database(registry_settings, observing.registry)
        )
        starter = VllmStarter(arguments, settings.host_cache_bytes)
        supervisor = EngineSupervisor(starter.start, metrics)
        stack.push_async_callback(supervisor.end)
        await supervisor.begin()
        served = await supervisor.life.backend.served_modules()
        store = await open_store(registry_settings)
        tenants = TenantParts(database, observing.registry.tenant_refused)
        await tenants.book.refresh()
        service = await open_service(
            database,
            store,
            model=arguments.model,
            served_names=arguments.served_model_name or [arguments.model],
            served=served,
            max_rank=arguments.max_lora_rank,
            max_import_bytes=registry_settings.max_import_bytes,
            quotas=tenants.quotas,
        )
        service.registrar.observe_outcomes(observing.registry.ingest_ended)
        ingest = open_ingest(service, database, store, registry_settings)
        cache = make_cache(
            arguments,
            settings,
            supervisor,
            metrics,
            ResolvedBefore(RegistryResolver(service.catalog)),
            ReplicaResidencyStore(database) if is_replica else ResidencyStore(database),
            silent=supervisor.report_silence,
            quarantine=Quarantine(partial(quarantine, service)),
            observers=observing.observers,
            tenancy=tenants.tenancy,
        )
        service.set_usage_check(cache.uses)
        score = prompt_score(lambda: supervisor.life.engine)
        probe = Probe(cache.controller, score, service.lifecycle.quarantine)
        unavailable = partial(_why_unavailable, cache, supervisor)
        promoting = EnginePromotion(cache.controller, unavailable, probe)
        service.set_serving_engine(promoting)
        events = await stack.enter_async_context(event_parts(database, registry_settings))
        events.dispatcher.on_attempt.append(observing.registry.webhook_attempted)
        keys = KeyService(database)
        routers = [
            create_router(service),
            create_key_router(keys),
            create_tenant_router(tenants.service(cache.controller.tenants.usage), keys),
            create_ingest_router(ingest),
            create_probe_router(probe, cache.resolver),
            create_lora_router(NamedAdapters(service, cache.controller, promoting)),
            *cache.routers(events.decision_streams, tenants.grants.of),
            *events.routers,
        ]
        guards = guarding(
            registry_settings, keys, observing.registry.key_refused, arguments.allowed_origins
        )
        guards = [*guards, body_guard(settings, registry_settings)]
        app = await _application(
            arguments, settings, supervisor, service, cache, observing, routers, guards, tenants
        )
        binding = EngineBinding(
            app, arguments, Leasing(cache.controller, metrics), service.catalog.served_references
        )
        await binding.bind(supervisor.life.engine)
        following = supervisor.run(_Follower(supervisor, binding, cache))
        work = [*cache.work(), following, ingest.run(), observing.count(database).run()]
        notices = ChangeNotices(database, partial(_look_for_changes, service, events))
        work += [events.run(lambda: is_stopping(app)), keys.run(), tenants.book.run()]
        work += [notices.run()]
        await stack.enter_async_context(background(app, work))
        await cache.preload(settings.preload)
        yield Server(
            app,
            supervisor,
            cache,
            service,
            promoting,
            probe,
            metrics.freeze_gauges,
            REGISTRY,
            guarded_http(settings),
        )


async def _application(
    arguments: Namespace,
    settings: EngineSettings,
    supervisor: EngineSupervisor[VllmLife],
    service: RegistryService,
    cache: Cache,
    observing: Observing,
    routers: Sequence[APIRouter],
    guards: Sequence[Middleware],
    tenants: TenantParts,
) -> FastAPI:
    unavailable = partial(_why_unavailable, cache, supervisor)

    async def engine_is_well() -> None:
        if (why := unavailable()) is not None:
            raise why
        await supervisor.life.engine.check_health()

    return await build_application(
        supervisor.life.engine,
        arguments,
        unavailable=unavailable,
        resolver=cache.resolver,
        counter=observing.cache,
        tracing=observing.tracing,
        metrics_route=observing.metrics_route(),
        routers=[
            *routers,
            create_health_router({"engine": engine_is_well, "database": service.ping}),
            create_console_router(),
        ],
        guards=guards,
        in_flight=tenants.in_flight,
        max_body_bytes=settings.max_body_bytes,
    )


async def _look_for_changes(service: RegistryService, events: EventParts) -> None:
    """Of other servers on the same database."""
    events.feed.wake()
    await service.catalog.poll_changes_now()


def _why_unavailable(
    cache: Cache, supervisor: EngineSupervisor[VllmLife]
) -> EngineUnavailable | None:
    return cache.controller.unavailable or supervisor.unavailable


class _Follower:
    """What has to happen when the engine has gone, and when the next one is there."""

    def __init__(
        self, supervisor: EngineSupervisor[VllmLife], binding: EngineBinding, cache: Cache
    ) -> None:
        self._supervisor = supervisor
        self._binding = binding
        self._cache = cache
        self._warming: asyncio.Task[None] | None = None

    async def engine_lost(self, why: EngineUnavailable) -> None:
        self._cache.warm_up.remember()
        await self._cache.controller.on_engine_lost(why)

    async def engine_ready(self) -> None:
        await self._binding.bind(self._supervisor.life.engine)
        self._cache.controller.on_engine_ready()
        self._warming = asyncio.create_task(self._cache.warm_up.reload())
