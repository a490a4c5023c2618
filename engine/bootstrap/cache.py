"""The cache of one server: the controller, and those who work beside it."""

import logging
from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from engine.api.cache import create_cache_router
from engine.api.decisions import create_decision_router
from engine.api.visibility import Current
from engine.artifact_files import StoredFiles, create_local_copies
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.cache.reconciler import Reconciler
from engine.cache.snapshot import CacheSnapshot
from engine.cache.tenant_memory import Tenancy
from engine.errors import EngineError
from engine.operations.control import EngineCacheControl, EvictionLog
from engine.operations.pins import PinService
from engine.operations.quarantine import Quarantine
from engine.operations.warmup import WarmUp
from engine.policy.policy import CachePolicy
from engine.ports import Backend, Observer, Observers, Resolver
from engine.settings import EngineSettings
from engine.telemetry.decision_log import DecisionLog
from engine.telemetry.metrics import CacheMetrics
from engine.types import VersionId
from registry.errors import RegistryError
from registry.http.sse import StreamLimiter
from registry.residency import ResidencyStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cache:
    """`work` has to run beside everything else."""

    controller: CacheController
    pins: PinService
    warm_up: WarmUp
    reconciler: Reconciler
    resolver: Resolver
    log: DecisionLog
    evictions: EvictionLog

    def work(self) -> list[Coroutine[None, None, None]]:
        """Each runs until cancelled."""
        return [
            self.controller.run(),
            self.pins.expire(),
            self.warm_up.run(),
            self.reconciler.run(),
        ]

    def routers(self, streams: StreamLimiter, current: Current) -> list[APIRouter]:
        """What can be asked of it over REST; `streams` limits its stream."""
        steered = EngineCacheControl(self.controller, self.pins, self.log)
        return [
            create_cache_router(steered, self.resolver, self.evictions),
            create_decision_router(steered, self.log, self.resolver, streams, current),
        ]

    async def uses(self, version_id: int) -> bool:
        """Whether its files may be needed again before a request asks for it."""
        return self.controller.uses(VersionId(version_id))

    async def preload(self, references: Sequence[str]) -> None:
        """Bring them into host memory. What can't be loaded is said, and keeps nobody waiting."""
        for reference in references:
            try:
                await self.controller.bring_to_host(await self.resolver.resolve(reference))
            except (EngineError, RegistryError) as error:
                logger.warning("%s is not preloaded: %s", reference, error.detail)


def make_cache(
    arguments: Namespace,
    settings: EngineSettings,
    backend: Backend,
    metrics: CacheMetrics,
    resolver: Resolver,
    store: ResidencyStore,
    *,
    silent: Callable[[], None],
    quarantine: Quarantine,
    observers: Sequence[Observer] = (),
    tenancy: Tenancy | None = None,
) -> Cache:
    """`arguments`: vLLM's, which say how many slots and host places there are.

    `silent` is called when the engine has not answered for too long. `observers` hear of all that
    happens, as those do that every cache has.
    """
    policy = CachePolicy(
        slots=arguments.max_loras,
        host_capacity=arguments.max_cpu_loras,
        host_bytes=settings.host_cache_bytes,
        max_loads=settings.max_loads,
    )
    copies = create_local_copies(settings)
    files = copies or StoredFiles()
    loader = Loader(backend, files, timeout_seconds=settings.load_timeout_seconds)
    log = DecisionLog()
    everybody = Observers(metrics, log, quarantine, *observers)
    limits = settings.limits()
    controller = CacheController(policy, backend, loader, everybody, limits, tenancy=tenancy)
    if copies is not None:
        copies.protect(lambda: _digests(controller.snapshot()))
    pins = PinService(controller, store, resolver)
    seconds = settings.save_residents_seconds
    warm_up = WarmUp(controller, pins, store, resolver, save_seconds=seconds)
    reconciler = Reconciler(
        controller,
        every_seconds=settings.reconcile_seconds,
        hang_seconds=settings.engine_hang_seconds,
        silent=silent,
    )
    metrics.watch(controller.snapshot, lambda: reconciler.last_state.in_step_loads)
    return Cache(controller, pins, warm_up, reconciler, resolver, log, store)


def _digests(snapshot: CacheSnapshot) -> frozenset[str]:
    """Of all that vLLM holds, or is about to."""
    held = [resident.version for resident in snapshot.host]
    return frozenset(version.digest for version in (*held, *snapshot.loading))
