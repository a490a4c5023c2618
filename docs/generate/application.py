"""Our routes in an application without an engine, for its OpenAPI document.

Nothing is opened or called. Importing this takes seconds: `/generate` is made of vLLM's types.
"""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from engine.api.history import create_history_router
from engine.api.probe import create_probe_router
from engine.api.server_settings import create_settings_router
from engine.api.servers import create_server_router
from engine.api.trace import create_trace_router
from engine.bootstrap.cache import Cache, create_cache
from engine.bootstrap.registry import create_ingest
from engine.fake_backend import FakeBackend
from engine.fanout.router import create_fanout_router
from engine.history.reader import HistoryReader
from engine.http.health import create_health_router
from engine.operations.probe import Probe
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion
from engine.vllm.generate_api import router as generate_router
from registry.api.access.keys import create_key_router
from registry.api.access.rates import create_rate_router
from registry.api.access.tenants import create_tenant_router
from registry.api.access.whoami import create_whoami_router
from registry.api.ingest import create_ingest_router
from registry.api.prompts import create_prompt_router
from registry.api.router import create_router
from registry.auth.keys import KeyService
from registry.cache_history import CacheHistoryStore
from registry.database.engine import Database
from registry.http.openapi import document_errors
from registry.inspection.base_model import BaseModel
from registry.notifications import open_notifications
from registry.prompts.service import PromptSetService
from registry.quotas.service import TenantQuotas
from registry.rates.usage import RateUsage
from registry.rates.windows import RateWindows
from registry.residency import ResidencyStore
from registry.servers import ServerDirectory
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.storage.store import ArtifactStore
from registry.tenants.live_grants import LiveGrants
from registry.tenants.service import TenantService

_SLOTS, _HOST_CAPACITY, _MAX_RANK = 2, 4, 16


def openapi_document() -> dict[str, Any]:
    """As the real application writes it, but for vLLM's own routes: a test compares the two."""
    app = FastAPI()
    for router in asyncio.run(_routers()):
        app.include_router(router)
    document_errors(app)
    return app.openapi()


async def _routers() -> Sequence[APIRouter]:
    settings = RegistrySettings()
    database = Database(settings.database_url)
    store = ArtifactStore(Path("nowhere"), source_roots=(), max_bytes=settings.max_adapter_bytes)
    service = RegistryService(database, store, BaseModel("any", None), max_rank=_MAX_RANK)
    cache = _cache(service, database)
    probe = Probe(cache.controller, _never_scored)
    async with open_notifications(database, settings) as events:
        return (
            create_router(service),
            create_key_router(keys := KeyService(database)),
            create_whoami_router(keys),
            create_tenant_router(TenantService(database), keys),
            create_rate_router(RateUsage(database, RateWindows())),
            create_ingest_router(create_ingest(service, database, store, settings)),
            create_probe_router(probe, cache.resolver),
            *events.routers,
            *cache.routers(events.decision_streams, LiveGrants(database).of),
            create_trace_router(None),
            create_history_router(HistoryReader(_no_history(database), None)),
            create_server_router(ServerDirectory(database, "here")),
            create_health_router({}),
            create_prompt_router(PromptSetService(database, TenantQuotas(database))),
            create_settings_router(settings, EngineSettings(), {}, service),
            generate_router,
            create_fanout_router(),
        )


def _no_history(database: Database) -> CacheHistoryStore:
    return CacheHistoryStore(database, "here", keep_seconds=0, max_bytes=0)


def _cache(service: RegistryService, database: Database) -> Cache:
    return create_cache(
        Namespace(max_loras=_SLOTS, max_cpu_loras=_HOST_CAPACITY, max_lora_rank=_MAX_RANK),
        EngineSettings(),
        FakeBackend(slots=_SLOTS, host_capacity=_HOST_CAPACITY),
        CacheMetrics(CollectorRegistry()),
        RegistryResolver(service.catalog),
        service,
        ResidencyStore(database, "here"),
        report_silence=lambda: None,
    )


async def _never_scored(version: AdapterVersion | None) -> Sequence[float]:
    raise AssertionError("never called: there is no server")
