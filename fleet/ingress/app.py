"""Ingress application: the registry itself, and a proxy to the replicas."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import SimpleNamespace

from fastapi import APIRouter, FastAPI
from starlette.routing import Mount

from engine.api.cache import create_cache_router
from engine.api.decisions import create_decision_router
from engine.api.probe import create_probe_router
from engine.bootstrap.background import background, is_stopping
from engine.bootstrap.registry import open_database, open_ingest, open_service, open_store
from engine.bootstrap.tenancy import TenantParts
from engine.console.router import create_console_router
from engine.errors import EngineUnavailable, engine_codes
from engine.http.body_limits import body_guard
from engine.http.health import create_health_router
from engine.http.middleware import guarding
from engine.operations.probe import ProbeFailure
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.decision_log import DecisionLog
from fleet.ingress.cache_control import FleetCache
from fleet.ingress.metrics import count_http_requests, create_metrics_route
from fleet.ingress.pins import FleetPins
from fleet.ingress.promotion import FleetProbe, FleetPromotion
from fleet.ingress.proxy import ReplicaProxy
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.replica_poller import ReplicaPoller
from fleet.ingress.warmup import FleetWarmUp
from fleet.messages import EngineFacts
from fleet.ports import Replicas
from registry.api.ingest import create_ingest_router
from registry.api.keys import create_key_router
from registry.api.router import create_router
from registry.api.tenants import create_tenant_router
from registry.auth.keys import KeyService
from registry.events.postgres_notify import ChangeNotices
from registry.http.openapi import document_errors
from registry.notifications import EventParts, event_parts
from registry.residency import ResidencyStore
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
    expected: int,
) -> AsyncIterator["Ingress"]:
    """Start the registry and the tasks that track the replicas; stop them on the way out.

    `expected`: the number of replicas that the fleet was started with.
    """
    async with AsyncExitStack() as stack:
        facts = await _facts(replicas)
        metrics = RegistryMetrics(
            codes=engine_codes() | set(ProbeFailure), max_tenant_labels=settings.max_adapter_labels
        )
        stack.callback(metrics.close)
        database = await stack.enter_async_context(open_database(registry_settings, metrics))
        store = await open_store(registry_settings)
        tenants = TenantParts(database, metrics.tenant_refused)
        await tenants.book.refresh()
        service = await open_service(
            database,
            store,
            model=facts.model,
            served_names=facts.served_names,
            served=facts.served_modules,
            max_rank=facts.max_rank,
            max_import_bytes=registry_settings.max_import_bytes,
            quotas=tenants.quotas,
        )
        service.registrar.observe_outcomes(metrics.ingest_ended)
        ingest = open_ingest(service, database, store, registry_settings)
        resolver = RegistryResolver(service.catalog)
        residency = ResidencyStore(database)
        recent = RecentResidency()
        pins = FleetPins(replicas, residency, resolver, recent)
        await pins.restore()
        cache = FleetCache(replicas, pins)
        service.set_usage_check(cache.uses)
        service.set_serving_engine(FleetPromotion(replicas, recent))
        log = DecisionLog()
        poller = ReplicaPoller(replicas, log)
        warm_up = FleetWarmUp(
            replicas,
            poller,
            residency,
            resolver,
            expected=expected,
            save_seconds=settings.save_residents_seconds,
        )
        events = await stack.enter_async_context(event_parts(database, registry_settings))
        events.dispatcher.on_attempt.append(metrics.webhook_attempted)
        keys = KeyService(database)
        limiter = events.decision_streams
        proxy = ReplicaProxy(
            replicas,
            resolver,
            recent=recent,
            base_models=frozenset(facts.served_names),
            in_flight=tenants.in_flight,
            max_body_bytes=settings.max_body_bytes,
        )
        guards = guarding(registry_settings, keys, metrics.key_refused, facts.allowed_origins)
        app = _application(
            create_router(service),
            create_key_router(keys),
            create_tenant_router(tenants.service(poller.usage), keys),
            create_ingest_router(ingest),
            create_probe_router(FleetProbe(replicas), resolver),
            create_cache_router(cache, resolver, residency),
            create_decision_router(cache, log, resolver, limiter, tenants.grants.of),
            *events.routers,
            create_health_router({"engine": _check_any_engine(poller), "database": service.ping}),
            create_console_router(),
        )
        app.user_middleware = [*guards, body_guard(settings, registry_settings)]
        count_http_requests(app)
        app.router.routes.append(create_metrics_route(replicas))
        app.router.routes.append(Mount("/", proxy))
        notices = ChangeNotices(database, lambda: _look_for_changes(service, events))
        work = [
            *(poller.run(), pins.run(), warm_up.run()),
            *(ingest.run(), keys.run(), tenants.book.run()),
            *(events.run(lambda: is_stopping(app)), notices.run()),
        ]
        await stack.enter_async_context(background(app, work))
        yield Ingress(app, service, cache, resolver)


class Ingress:
    """A running ingress. `app` serves it."""

    def __init__(
        self,
        app: FastAPI,
        service: RegistryService,
        cache: FleetCache,
        resolver: RegistryResolver,
    ) -> None:
        self.app = app
        self.service = service
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


async def _facts(replicas: Replicas) -> EngineFacts:
    """The facts of any replica, once one is running: Ray Serve starts replicas first."""
    while True:
        with suppress(EngineUnavailable):
            found: Mapping[str, EngineFacts] = (await replicas.call("facts")).all()
            return next(iter(found.values()))
        await asyncio.sleep(_RETRY_SECONDS)


def _check_any_engine(poller: ReplicaPoller) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        await poller.poll()
        if not any(snapshot.engine_up for snapshot in poller.snapshots.values()):
            raise EngineUnavailable("no replica has an engine now")

    return check


async def _look_for_changes(service: RegistryService, events: EventParts) -> None:
    """Read changes that other servers made in the same database."""
    events.feed.wake()
    await service.catalog.poll_changes_now()
