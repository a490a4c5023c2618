"""Registry server for fuzzing: every route that needs no vLLM, over real HTTP, with rows to find.

`python -m fuzz.registry_server FOLDER PORT [--require-keys]` serves until its input ends, and says
a key. The cache is the real controller over the fake backend; the database is SQLite.
"""

import asyncio
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware

from engine.api.probe import create_probe_router
from engine.api.servers import create_server_router
from engine.bootstrap.background import run_in_background
from engine.bootstrap.cache import create_cache
from engine.bootstrap.registry import create_ingest, open_database, open_store
from engine.fake_backend import FakeBackend
from engine.http.body_limits import create_body_limit
from engine.http.health import create_health_router
from engine.http.uvicorn_protocol import create_http_protocol
from engine.operations.probe import Probe
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion
from fuzz.cut_streams import CutStreams
from fuzz.rows import make_rows
from registry.api.access.keys import create_key_router
from registry.api.access.rates import create_rate_router
from registry.api.access.tenants import create_tenant_router
from registry.api.access.whoami import create_whoami_router
from registry.api.ingest import create_ingest_router
from registry.api.router import create_router
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.http.authentication import AuthenticationMiddleware
from registry.http.openapi import document_errors
from registry.inspection.base_model import read_base_model
from registry.notifications import open_notifications
from registry.rates.usage import RateUsage
from registry.rates.windows import RateWindows
from registry.residency import ResidencyStore
from registry.servers import ServerDirectory
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.tenants.live_grants import LiveGrants
from registry.tenants.service import TenantService

ROOT = Path(__file__).resolve().parents[1]
SLOTS, HOST_CAPACITY, MAX_RANK = 3, 4, 64


@asynccontextmanager
async def application(
    folder: Path, *, require_keys: bool = False, rows: bool = True
) -> AsyncIterator[FastAPI]:
    """With the demo's adapters and a row of every kind by default."""
    settings = RegistrySettings(
        database_url=f"sqlite+aiosqlite:///{folder}/registry.db",
        store=folder / "store",
        source_roots=(ROOT / "demo", folder),
        max_adapter_bytes=2**24,
        event_streams=10,
        allowed_networks=("127.0.0.1",),
    )
    engine_settings = EngineSettings(slot_timeout_seconds=1)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        store = await open_store(settings)
        base = read_base_model("demo", ROOT / "demo" / "base")
        service = RegistryService(database, store, base, max_rank=MAX_RANK)
        ingest = create_ingest(service, database, store, settings)
        cache = create_cache(
            Namespace(max_loras=SLOTS, max_cpu_loras=HOST_CAPACITY, max_lora_rank=MAX_RANK),
            engine_settings,
            FakeBackend(slots=SLOTS, host_capacity=HOST_CAPACITY),
            CacheMetrics(CollectorRegistry()),
            RegistryResolver(service.catalog),
            service,
            ResidencyStore(database, "here"),
            report_silence=lambda: None,
        )
        service.set_usage_check(cache.uses)
        events = await stack.enter_async_context(open_notifications(database, settings))
        keys = KeyService(database)
        probe = Probe(cache.controller, _scored)
        guards = [create_body_limit(engine_settings, settings), Middleware(CutStreams)]
        if require_keys:
            guards.insert(0, Middleware(AuthenticationMiddleware, authenticate=keys.authenticate))
        app = FastAPI(title="Adaptry", middleware=guards)
        document_errors(app)
        for router in (
            create_router(service),
            create_key_router(keys),
            create_whoami_router(keys),
            create_tenant_router(TenantService(database), keys),
            create_rate_router(RateUsage(database, RateWindows())),
            create_ingest_router(ingest),
            create_probe_router(probe, cache.resolver),
            *cache.routers(events.decision_streams, LiveGrants(database).of),
            create_server_router(ServerDirectory(database, "here")),
            *events.routers,
            create_health_router({"database": service.ping}),
        ):
            app.include_router(router)
        work: list[Coroutine[Any, Any, None]] = [
            *cache.work(),
            ingest.run(),
            keys.run(),
            events.run(lambda: False),
        ]
        await stack.enter_async_context(run_in_background(app, work))
        app.state.key, _ = await keys.create("root", [Scope.ADMIN], actor="fuzz")
        if rows:
            await make_rows(app, app.state.key, ROOT / "demo")
        yield app


async def _scored(version: AdapterVersion | None) -> list[float]:
    return [0.0 if version is None else float(version.id)]


async def serve(folder: Path, port: int, require_keys: bool) -> None:
    async with application(folder, require_keys=require_keys) as app:
        server = uvicorn.Server(
            uvicorn.Config(
                app, port=port, http=create_http_protocol(EngineSettings()), log_level="error"
            )
        )
        app.state.server = server
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.02)
        sys.stdout.write(f"{app.state.key}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), "--require-keys" in sys.argv))
