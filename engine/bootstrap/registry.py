"""The registry in this process, for the base model that this engine serves."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from engine.errors import AdapterLoadFailed
from engine.types import AdapterVersion
from registry.auth.client_address import LOCAL, from_address
from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.database.observer import DatabaseObserver
from registry.ingest.service import IngestService
from registry.inspection.base_model import read_base_model
from registry.inspection.supported_modules import ServedModules
from registry.quotas.service import TenantQuotas
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.egress_guard import NetGuard
from registry.sources.registry import RemoteSources
from registry.storage.store import ArtifactStore

logger = logging.getLogger(__name__)


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


async def open_store(settings: RegistrySettings) -> ArtifactStore:
    """Raises StoreUnavailable."""
    store = ArtifactStore(
        settings.store.resolve(),
        source_roots=settings.source_roots,
        max_bytes=settings.max_adapter_bytes,
        max_files=settings.max_source_files,
    )
    await asyncio.to_thread(store.open)
    return store


async def open_service(
    database: Database,
    store: ArtifactStore,
    *,
    model: str,
    served_names: Sequence[str],
    served: ServedModules | None,
    max_rank: int,
    max_import_bytes: int,
    quotas: TenantQuotas | None = None,
) -> RegistryService:
    """Once the base model's files are there. `served` is the engine's own word."""
    folder = await asyncio.to_thread(_find_model_folder, model)
    base_model = await asyncio.to_thread(read_base_model, served_names[0], folder, served)
    if base_model.shapes is None and served is None:
        logger.warning("no safetensors of the base model here: adapter shapes can't be checked")
    service = RegistryService(
        database,
        store,
        base_model,
        max_rank=max_rank,
        reserved_names=frozenset(served_names),
        max_import_bytes=max_import_bytes,
        quotas=quotas,
    )
    await service.recover()
    return service


def _find_model_folder(model: str) -> Path | None:
    """A local path as it is, a Hub id as its cached snapshot; None if neither exists here."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def open_ingest(
    service: RegistryService, database: Database, store: ArtifactStore, settings: RegistrySettings
) -> IngestService:
    """Takes requests at once; jobs are worked off while its `run` runs."""
    sources = RemoteSources(settings.source_urls, NetGuard(settings.allowed_networks))
    return IngestService(service.registrar, database, store, sources, settings)


async def quarantine(service: RegistryService, version: AdapterVersion, reason: str) -> None:
    """It could not be loaded, and never will be."""
    with from_address(None):  # not whoever sent the request that it failed for
        await service.lifecycle.quarantine(
            version.id, reason, AdapterLoadFailed.code, actor="engine"
        )


async def register_folders(service: RegistryService, folders: Sequence[tuple[str, Path]]) -> None:
    """Register what `--lora-path` names; content that is known already stays as it is."""
    for name, folder in folders:
        with from_address(LOCAL):
            registration = await service.registrar.register(name, str(folder), actor="command line")
        state = "registered" if registration.created else "already registered"
        logger.info("%s is %s as %s", folder, state, registration.published.reference)
