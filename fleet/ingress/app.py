"""Ingress application: the registry itself, and a proxy to the replicas."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.routing import Mount

from engine.api.adapter_facts import AdapterFacts
from engine.api.cache import create_cache_router
from engine.api.decisions import create_decision_router
from engine.api.dynamo import create_dynamo_router
from engine.api.lora import create_lora_router
from engine.api.probe import create_probe_router
from engine.api.server_settings import create_settings_router
from engine.bootstrap.background import is_stopping, run_in_background
from engine.bootstrap.registry import ServedModel, open_database, open_registry
from engine.bootstrap.telemetry import create_rate_gauges, create_registry_metrics
from engine.console.router import create_console_router
from engine.errors import EngineUnavailable
from engine.gateway.query_parameters import refuse_unknown_parameters
from engine.http.health import create_health_router
from engine.http.middleware import create_guards
from engine.operations.module_naming import EngineNaming
from engine.operations.named_adapters import NamedAdapters
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.decision_log import DecisionLog
from engine.tgi.middleware import GenerateApi
from fleet.ingress.cache_control import FleetCache
from fleet.ingress.history import create_fleet_history_router
from fleet.ingress.metrics import count_http_requests, create_metrics_route
from fleet.ingress.pins import FleetPins
from fleet.ingress.promotion import FleetProbe, FleetPromotion
from fleet.ingress.proxy import ReplicaProxy
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.replica_poller import ReplicaPoller
from fleet.ingress.warmup import FleetWarmUp
from fleet.messages import EngineFacts
from fleet.options import FLEET
from fleet.ports import Replicas
from registry.http.openapi import document_errors
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.telemetry.metrics import RegistryMetrics

_RETRY_SECONDS = 0.5


@asynccontextmanager
async def run_ingress(
    replicas: Replicas,
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    *,
    expected: Callable[[], Awaitable[int]],
) -> AsyncIterator["Ingress"]:
    """Start the registry and the tasks that track the replicas; stop them on the way out.

    `expected`: the number of replicas that the fleet has when all have started.
    """
    async with AsyncExitStack() as stack:
        facts = await _facts(replicas)
        metrics = create_registry_metrics(settings)
        stack.callback(metrics.close)
        database = await stack.enter_async_context(open_database(registry_settings, metrics))
        modules = facts.served_modules
        if modules is not None:
            modules = replace(modules, naming=EngineNaming(partial(_places, replicas)))
        model = ServedModel(
            facts.model,
            facts.served_names,
            modules,
            facts.fleet_rank or facts.max_rank,
            facts.revision,
        )
        registry = await stack.enter_async_context(
            open_registry(database, registry_settings, metrics, model, FLEET)
        )
        service, tenants = registry.service, registry.tenants
        stack.callback(create_rate_gauges(tenants, settings.max_adapter_labels).close)
        resolver = RegistryResolver(service.catalog)
        residency = await registry.open_residency(is_replica=False)
        recent = RecentResidency()
        pins = FleetPins(replicas, residency, resolver, recent)
        await pins.restore()
        cache = FleetCache(replicas, pins)
        service.set_usage_check(cache.uses)
        promotion = FleetPromotion(replicas, recent)
        service.set_serving_engine(promotion)
        log = DecisionLog()
        service.overview.facts = AdapterFacts(cache.snapshots, log)
        poller = ReplicaPoller(replicas, log)
        warm_up = FleetWarmUp(
            replicas,
            poller,
            residency,
            resolver,
            expected=expected,
            save_seconds=settings.save_residents_seconds,
        )
        limiter = registry.events.decision_streams
        proxy = ReplicaProxy(
            replicas,
            resolver,
            recent=recent,
            base_models=frozenset(facts.served_names),
            in_flight=tenants.in_flight,
            max_body_bytes=settings.max_body_bytes,
            is_complete=partial(_is_complete, poller, expected),
            max_body_values=settings.max_body_values,
            default_adapter=settings.default_adapter,
        )
        named = NamedAdapters(service, registry.ingest, cache.load_into_host, promotion)
        history = await create_fleet_history_router(
            database, settings, registry.server_id, replicas
        )
        app = _application(
            *registry.routers(poller.usage),
            create_probe_router(FleetProbe(replicas), resolver),
            create_lora_router(named),
            create_dynamo_router(named, service.catalog.served_references, service.names.served),
            create_cache_router(cache, resolver, residency),
            create_decision_router(cache, log, resolver, limiter, tenants.grants.of),
            history,
            create_health_router(
                {
                    "engine": _check_any_engine(poller),
                    "database": service.ping,
                    "store": service.check_store,
                }
            ),
            create_settings_router(
                registry_settings,
                settings,
                {
                    "model": facts.model,
                    "revision": facts.revision,
                    "served_model_name": list(facts.served_names),
                },
                service,
            ),
            create_console_router(),
        )
        app.user_middleware = create_guards(
            settings,
            registry_settings,
            registry.keys,
            metrics.on_key_refusal,
            facts.allowed_origins,
            rates=tenants.rates,
        )
        app.user_middleware.append(
            Middleware(
                GenerateApi,
                base_model=facts.served_names[0],
                max_body_bytes=settings.max_body_bytes,
                max_body_values=settings.max_body_values,
            )
        )
        count_http_requests(app)
        app.router.routes.append(create_metrics_route(replicas))
        refuse_unknown_parameters(app.routes)
        app.router.routes.append(Mount("/", proxy))
        work = [poller.run(), pins.run(), warm_up.run(), *registry.work(app)]
        await stack.enter_async_context(run_in_background(app, work))
        yield Ingress(app, service, cache, resolver, metrics)


class Ingress:
    """A running ingress. `app` serves it."""

    def __init__(
        self,
        app: FastAPI,
        service: RegistryService,
        cache: FleetCache,
        resolver: RegistryResolver,
        metrics: RegistryMetrics,
    ) -> None:
        self.app = app
        self.service = service
        self.metrics = metrics
        self._cache = cache
        self._resolver = resolver

    async def preload(self, references: tuple[str, ...]) -> None:
        """Load each into the host memory of the replica where its requests will go."""
        for reference in references:
            await self._cache.prefetch(await self._resolver.resolve(reference), 1)

    @property
    def is_healthy(self) -> bool:
        """Whether all background tasks are still running."""
        return not is_stopping(self.app)

    def stop(self) -> None:
        """End the streams, so that the server can stop."""
        self.app.state.server.should_exit = True


def _application(*routers: APIRouter) -> FastAPI:
    """The ingress's own routes; all others, also vLLM's OpenAPI document, are a replica's."""
    app = FastAPI(title="Adaptry", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.server = SimpleNamespace(should_exit=False)
    document_errors(app)
    for router in routers:
        app.include_router(router)
    return app


async def _is_complete(poller: ReplicaPoller, expected: Callable[[], Awaitable[int]]) -> bool:
    up = sum(each.engine_up for each in poller.snapshots.values())
    return up >= await expected()


async def _facts(replicas: Replicas) -> EngineFacts:
    """The facts of any replica, once one is running: Ray Serve starts replicas first."""
    while True:
        with suppress(EngineUnavailable):
            found: Mapping[str, EngineFacts] = (await replicas.call("facts")).all()
            return next(iter(found.values()))
        await asyncio.sleep(_RETRY_SECONDS)


async def _places(replicas: Replicas, tensors: Sequence[str]) -> Sequence[str | None]:
    """What the engines, which are all alike, call the modules. Raises EngineUnavailable."""
    answers = await replicas.call("places", tensors)
    for answer in answers.values.values():
        found: Sequence[str | None] = answer
        return found
    answers.check()
    raise EngineUnavailable("no replica has answered")


def _check_any_engine(poller: ReplicaPoller) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        await poller.poll()
        if not any(snapshot.engine_up for snapshot in poller.snapshots.values()):
            raise EngineUnavailable("no replica has an engine now")

    return check
