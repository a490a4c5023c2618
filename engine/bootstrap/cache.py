"""The cache of one server: the controller, its background work, operations and routes."""

import logging
from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter

from engine.api.adapter_facts import AdapterFacts
from engine.api.cache import create_cache_router
from engine.api.decisions import create_decision_router
from engine.api.policy import create_policy_router
from engine.api.visibility import Current
from engine.artifact_files import StoredFiles, create_local_copies
from engine.bootstrap.registry import condemn
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.cache.reconciler import Reconciler
from engine.cache.snapshot import CacheSnapshot
from engine.cache.tenant_memory import Tenancy
from engine.engine_fit import EngineFit, FittingFiles
from engine.errors import EngineError, EngineUnavailable
from engine.gateway.pinned_resolver import PinnedResolver
from engine.operations.control import EngineCacheControl, EvictionLog
from engine.operations.pins import PinService
from engine.operations.probe import Probe, Score
from engine.operations.promotion import EnginePromotion
from engine.operations.quarantine import Quarantine
from engine.operations.version_names import VersionNames
from engine.operations.warmup import WarmUp
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.policy import CachePolicy
from engine.ports import Backend, Observer, Observers, Resolver
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.decision_log import DecisionLog
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.shadows import Shadows
from engine.types import VersionId
from engine.vllm.supervisor import EngineSupervisor
from registry.errors import RegistryError
from registry.http.sse import StreamLimiter
from registry.residency import ResidencyStore
from registry.service import RegistryService

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cache:
    """`work` has to run while the cache is used."""

    controller: CacheController
    pins: PinService
    warm_up: WarmUp
    reconciler: Reconciler
    resolver: Resolver
    log: DecisionLog
    shadows: Shadows
    evictions: EvictionLog
    names: VersionNames

    def work(self) -> list[Coroutine[None, None, None]]:
        """Each runs until cancelled."""
        return [
            self.controller.run(),
            self.pins.expire(),
            self.warm_up.run(),
            self.reconciler.run(),
            self.names.run(),
        ]

    def routers(self, streams: StreamLimiter, current: Current) -> list[APIRouter]:
        """Its REST API. `streams` limits the clients of its stream."""
        steered = EngineCacheControl(self.controller, self.pins, self.log)
        return [
            create_cache_router(steered, self.resolver, self.evictions),
            create_decision_router(
                steered, self.log, self.resolver, streams, current, self.shadows.describe_last_miss
            ),
            create_policy_router(self.shadows),
        ]

    async def uses(self, version_id: int) -> bool:
        """Whether the version's files may be needed again without a new request for it."""
        return self.controller.uses(VersionId(version_id))

    async def on_engine_lost(self, why: EngineUnavailable) -> None:
        """Note what was in memory, for the warm-up of the next engine."""
        self.warm_up.remember()
        await self.controller.on_engine_lost(why)

    async def preload(self, references: Sequence[str]) -> None:
        """Load them into host memory. One that can't be loaded is logged and skipped."""
        for reference in references:
            try:
                await self.controller.load_into_host(await self.resolver.resolve(reference))
            except (EngineError, RegistryError) as error:
                logger.warning("%s is not preloaded: %s", reference, error.detail)


def create_cache(
    arguments: Namespace,
    settings: EngineSettings,
    backend: Backend,
    metrics: CacheMetrics,
    resolver: Resolver,
    service: RegistryService,
    store: ResidencyStore,
    *,
    report_silence: Callable[[], None],
    sleeps: Callable[[], bool] = lambda: False,
    observers: Sequence[Observer] = (),
    tenancy: Tenancy | None = None,
) -> Cache:
    """`arguments`: vLLM's, with the slots, their largest rank, and the adapters in host memory.

    `report_silence` is called when the engine has not answered for too long. `observers` are
    notified after those that every cache has.
    """
    orders = create_orders(settings.eviction_policy, per_byte=settings.host_cache_bytes is not None)
    policy = CachePolicy(
        slots=arguments.max_loras,
        host_capacity=arguments.max_cpu_loras,
        host_bytes=settings.host_cache_bytes,
        max_loads=settings.max_loads,
        eviction_order=orders.host,
        slot_order=orders.slots,
    )
    copies = create_local_copies(settings)
    files = FittingFiles(copies or StoredFiles(), service.registrar.find_misfit)
    loader = Loader(backend, files, timeout_seconds=settings.load_timeout_seconds)
    log = DecisionLog()
    shadows = Shadows(
        slots=arguments.max_loras,
        host_capacity=arguments.max_cpu_loras,
        policy=settings.eviction_policy,
        candidate=settings.shadow_policy,
    )
    quarantine = Quarantine(partial(condemn, service))
    controller = CacheController(
        policy,
        backend,
        loader,
        Observers(metrics, log, shadows, quarantine, *observers),
        settings.limits(),
        tenancy=tenancy,
        fit=EngineFit(arguments.max_lora_rank),
    )
    if copies is not None:
        copies.protect(lambda: _digests(controller.snapshot()))
    pins = PinService(controller, store, resolver)
    service.overview.facts = AdapterFacts(EngineCacheControl(controller, pins, log).snapshots, log)
    seconds = settings.save_residents_seconds
    warm_up = WarmUp(controller, pins, store, resolver, save_seconds=seconds)
    reconciler = Reconciler(
        controller,
        every_seconds=settings.reconcile_seconds,
        hang_seconds=settings.engine_hang_seconds,
        on_hang=report_silence,
        sleeps=sleeps,
    )
    names = VersionNames(service.catalog, policy.held)
    metrics.watch(
        controller.snapshot,
        lambda: reconciler.last_state.in_step_loads,
        names_of=names.of,
        shadows=shadows,
    )
    return Cache(controller, pins, warm_up, reconciler, resolver, log, shadows, store, names)


@dataclass(frozen=True, slots=True)
class SupervisedCache:
    """The cache over a supervised engine, with what takes the engine besides: probe, promotion."""

    cache: Cache
    probe: Probe
    promotion: EnginePromotion
    unavailable: Callable[[], EngineUnavailable | None]
    """Why no request can be served now; None if it can."""


def create_supervised_cache(
    arguments: Namespace,
    settings: EngineSettings,
    supervisor: EngineSupervisor[Any],
    metrics: CacheMetrics,
    service: RegistryService,
    store: ResidencyStore,
    score: Score,
    *,
    observers: Sequence[Observer] = (),
    tenancy: Tenancy | None = None,
) -> SupervisedCache:
    """See `create_cache`. `score`: log probabilities of the probe's prompt."""
    cache = create_cache(
        arguments,
        settings,
        supervisor,
        metrics,
        PinnedResolver(RegistryResolver(service.catalog)),
        service,
        store,
        report_silence=supervisor.report_silence,
        sleeps=supervisor.sleeps,
        observers=observers,
        tenancy=tenancy,
    )
    controller = cache.controller

    def unavailable() -> EngineUnavailable | None:
        return controller.unavailable or supervisor.unavailable

    probe = Probe(controller, score)
    promotion = EnginePromotion(controller, unavailable, probe)
    return SupervisedCache(cache, probe, promotion, unavailable)


def _digests(snapshot: CacheSnapshot) -> frozenset[str]:
    """Of all versions that vLLM holds or that are being loaded."""
    held = [resident.version for resident in snapshot.host]
    return frozenset(version.digest for version in (*held, *snapshot.loading))
