"""The registry in this process: database, store, services, their routes and background work."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import APIRouter, FastAPI

from engine.api.servers import create_server_router
from engine.bootstrap.background import is_stopping
from engine.bootstrap.interpreter import serving_interpreter
from engine.bootstrap.rates import open_rate_windows
from engine.bootstrap.tenancy import TenantServices
from engine.cache.tenant_limits import TenantCacheUsage
from engine.types import AdapterVersion
from registry.api.access.keys import create_key_router
from registry.api.access.rates import create_rate_router
from registry.api.access.tenants import create_tenant_router
from registry.api.access.whoami import create_whoami_router
from registry.api.ingest import create_ingest_router
from registry.api.prompts import create_prompt_router
from registry.api.router import create_router
from registry.auth.client_address import LOCAL, from_address
from registry.auth.keys import KeyService
from registry.bases.model_folder import find_model_folder
from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.database.observer import DatabaseObserver
from registry.events.postgres_notify import ChangeNotifier
from registry.ingest.precedence import NO_REQUESTS, Requests
from registry.ingest.service import IngestService
from registry.inspection.base_identity import identity_of
from registry.inspection.base_model import read_base_model
from registry.inspection.supported_modules import SupportedModules
from registry.notifications import Notifications, open_notifications
from registry.prompts.service import PromptSetService
from registry.quotas.service import TenantQuotas
from registry.rates.usage import RateUsage
from registry.residency import ReplicaResidencyStore, ResidencyStore
from registry.servers import ServerDirectory
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from registry.storage.store import ArtifactStore
from registry.telemetry.metrics import RegistryMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The base model, as its engine serves it. `modules`: None if the engine can't list them.

    `revision`: of a model on the Hub, if one was asked for.
    """

    path: str
    served_names: Sequence[str]
    modules: SupportedModules | None
    max_rank: int
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class LocalRegistry:
    """`work` has to run while `routers` are served."""

    database: Database
    service: RegistryService
    ingest: IngestService
    keys: KeyService
    tenants: TenantServices
    events: Notifications
    server_id: str

    def routers(self, usage_of: Callable[[str], TenantCacheUsage]) -> list[APIRouter]:
        """`usage_of`: a tenant's use of the cache."""
        return [
            create_router(self.service),
            create_prompt_router(PromptSetService(self.database, self.tenants.quotas)),
            create_key_router(self.keys),
            create_whoami_router(self.keys),
            create_tenant_router(self.tenants.create_service(usage_of), self.keys),
            create_rate_router(RateUsage(self.database, self.tenants.windows)),
            create_ingest_router(self.ingest),
            create_server_router(ServerDirectory(self.database, self.server_id)),
            *self.events.routers,
        ]

    def work(self, app: FastAPI) -> list[Coroutine[None, None, None]]:
        """Each runs until cancelled."""
        return [
            self.ingest.run(),
            self.keys.run(),
            self.tenants.limits.run(),
            self.events.run(lambda: is_stopping(app)),
            ChangeNotifier(self.database, self._read_changes).run(),
        ]

    async def open_residency(self, *, is_replica: bool) -> ResidencyStore:
        """What this server has pinned and in memory; of a replica, its ingress knows that."""
        if is_replica:
            return ReplicaResidencyStore(self.database, self.server_id)
        residency = ResidencyStore(self.database, self.server_id)
        await residency.open(await self.service.bases.open())
        return residency

    async def _read_changes(self) -> None:
        """What other servers changed in the same database."""
        self.events.watermark.wake()
        await self.service.catalog.poll_changes_now()


@asynccontextmanager
async def open_database(
    settings: RegistrySettings, observer: DatabaseObserver | None = None
) -> AsyncIterator[Database]:
    """With its tables up to date. Raises DatabaseUnavailable."""
    await asyncio.to_thread(upgrade, settings.database_url)
    database = Database(settings.database_url, observer=observer)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_registry(
    database: Database,
    settings: RegistrySettings,
    metrics: RegistryMetrics,
    model: ServedModel,
    default_server: str,
) -> AsyncIterator[LocalRegistry]:
    """`default_server`: this server's name if none is declared.

    Raises StoreUnavailable, DatabaseUnavailable.
    """
    store = await open_store(settings)
    async with (
        open_rate_windows(database, settings, metrics.on_rate_counted_alone) as windows,
        open_notifications(database, settings) as events,
    ):
        tenants = TenantServices(database, metrics.on_tenant_refusal, windows)
        await tenants.limits.refresh()
        service = await create_service(database, store, model, settings, tenants.quotas)
        service.registrar.observe_outcomes(metrics.on_ingest_outcome)
        ingest = create_ingest(service, database, store, settings, tenants.in_flight)
        events.dispatcher.on_attempt.append(metrics.on_webhook_attempt)
        keys, server = KeyService(database), settings.server_id or default_server
        with serving_interpreter():
            yield LocalRegistry(database, service, ingest, keys, tenants, events, server)


async def open_store(settings: RegistrySettings) -> ArtifactStore:
    """Raises StoreUnavailable."""
    store = ArtifactStore(
        settings.store.resolve(),
        source_roots=settings.source_roots,
        max_bytes=settings.max_adapter_bytes,
        max_files=settings.max_source_files,
        max_training_file_bytes=settings.max_training_file_bytes,
    )
    await asyncio.to_thread(store.open)
    return store


async def create_service(
    database: Database,
    store: ArtifactStore,
    model: ServedModel,
    settings: RegistrySettings,
    quotas: TenantQuotas | None = None,
) -> RegistryService:
    """To be called once the base model's files are downloaded: the engine does that."""
    name, modules = model.served_names[0], model.modules
    folder = await asyncio.to_thread(find_model_folder, model.path, model.revision)
    base_model = await asyncio.to_thread(read_base_model, name, folder, modules)
    identity = await asyncio.to_thread(
        identity_of,
        model.path,
        folder,
        revision=model.revision,
        declared=settings.base_id,
        also=model.served_names,
        served=modules,
    )
    base_model = replace(base_model, read=identity)
    logger.info("the base model is %s (%s)", identity.name, identity.digest[:8])
    if base_model.shapes is None and modules is None:
        logger.warning("no safetensors of the base model here: adapter shapes can't be checked")
    service = RegistryService(
        database,
        store,
        base_model,
        max_rank=model.max_rank,
        reserved_names=frozenset(model.served_names),
        max_import_bytes=settings.max_import_bytes,
        max_aliases=settings.max_aliases,
        quotas=quotas,
    )
    await service.recover()
    return service


def create_ingest(
    service: RegistryService,
    database: Database,
    store: ArtifactStore,
    settings: RegistrySettings,
    requests: Requests = NO_REQUESTS,
) -> IngestService:
    """Accepts jobs immediately and executes them while its `run` runs."""
    sources = RemoteSources(
        settings.source_urls,
        EgressGuard(settings.allowed_networks),
        mlflow_uri=settings.mlflow_tracking_uri,
        plain_registries=settings.plain_registries,
    )
    return IngestService(service.registrar, database, store, sources, settings, requests=requests)


async def condemn(service: RegistryService, version: AdapterVersion) -> bool:
    """Quarantine a version whose files look damaged to this engine, if that is proven."""
    with from_address(None):  # no client: neither the one whose request failed
        return await service.condemnation.condemn(version.id, version.digest, actor="engine")


async def register_folders(service: RegistryService, folders: Sequence[tuple[str, Path]]) -> None:
    """Register the folders of `--lora-path`, unless their content is registered already."""
    for name, folder in folders:
        with from_address(LOCAL):
            registration = await service.registrar.register(name, str(folder), actor="command line")
        state = "registered" if registration.created else "already registered"
        logger.info("%s is %s as %s", folder, state, registration.published.reference)
