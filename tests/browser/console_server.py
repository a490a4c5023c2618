"""A server for the console's pages: everything of a real one but the engine, on the fake backend.

The registry, jobs, keys, tenants, webhooks, the cache controller, probes and promotions are wired
as `engine.app` does it. It starts in a second; completions are not served.
"""

import asyncio
import socket
import threading
from argparse import Namespace
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import bindparam, func, select, text

from engine.api.probe import create_probe_router
from engine.api.server_settings import create_settings_router
from engine.bootstrap.background import run_in_background
from engine.bootstrap.cache import Cache, create_cache
from engine.bootstrap.history import ServerHistory, open_history
from engine.bootstrap.registry import LocalRegistry, ServedModel, open_database, open_registry
from engine.console.router import create_console_router
from engine.fake_backend import FakeBackend
from engine.gateway.pinned_resolver import PinnedResolver
from engine.http.health import create_health_router
from engine.http.middleware import create_guards
from engine.operations.probe import Probe
from engine.operations.promotion import EnginePromotion
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion
from registry.auth.scopes import Scope
from registry.models import Adapter
from registry.models.base import UtcDateTime, now
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.telemetry.metrics import RegistryMetrics

ROOT = Path(__file__).resolve().parents[2]
SLOTS, HOST_PLACES, MAX_RANK = 2, 4, 64
MANY = 100_000
# By the database: to hand over a hundred thousand rows took seven seconds.
ADD_MANY = """
INSERT INTO adapter (name, owner, created_at)
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :number)
SELECT printf('customer-%06d', n), 'team-' || (n % 50), :at FROM numbers
"""

Answer = TypeVar("Answer")


@dataclass
class ConsoleServer:
    """`ask` counts as a request of the version: it is looked up and leased for a moment."""

    url: str
    loop: asyncio.AbstractEventLoop
    cache: Cache
    registry: LocalRegistry

    def ask(self, reference: str) -> None:
        async def lease() -> None:
            async with self.cache.controller.lease(await self.cache.resolver.resolve(reference)):
                pass

        self.run(lease())

    def register(self, name: str, folder: str) -> None:
        """One of the demo's adapters."""
        source = str(ROOT / "demo" / "adapters" / folder)
        self.run(self.registry.service.registrar.register(name, source, actor="test"))

    def key(self, name: str, *scopes: Scope) -> str:
        """A new key; one named `acme~app` is a tenant's."""
        text, _ = self.run(self.registry.keys.create(name, scopes, actor="test"))
        return text

    def add_many(self) -> None:
        """Adapters without versions, up to 100,000."""
        self.run(self._add_many())

    async def _add_many(self) -> None:
        async with self.registry.database.transaction() as session:
            there = await session.scalar(select(func.count()).select_from(Adapter))
            at = bindparam("at", now(), UtcDateTime())
            await session.execute(text(ADD_MANY).bindparams(at), {"number": MANY - (there or 0)})

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """In the server's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@contextmanager
def console_server(
    state: Path, *, require_keys: bool = False, settings: EngineSettings | None = None
) -> Iterator[ConsoleServer]:
    ready: list[ConsoleServer] = []
    started, ending = threading.Event(), asyncio.Event()
    errors: list[BaseException] = []

    async def serve() -> None:
        try:
            async with _running(state, require_keys, settings or EngineSettings()) as server:
                ready.append(server)
                started.set()
                await ending.wait()
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(60)
    if not ready:
        thread.join()
        raise errors[0]
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(ending.set)
        thread.join()


@asynccontextmanager
async def _running(
    state: Path, require_keys: bool, engine_settings: EngineSettings
) -> AsyncIterator[ConsoleServer]:
    registry_settings = RegistrySettings(
        database_url=f"sqlite+aiosqlite:///{state}/registry.db",
        store=state / "store",
        source_roots=(ROOT / "demo", state),
        allowed_networks=("127.0.0.1",),
        require_keys=require_keys,
    )
    metrics = RegistryMetrics(CollectorRegistry())
    base = str(ROOT / "demo" / "base")
    model = ServedModel(base, ["demo"], None, max_rank=MAX_RANK)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with (
            open_database(registry_settings) as database,
            open_registry(database, registry_settings, metrics, model, "console") as registry,
        ):
            app = FastAPI()
            history = await open_history(
                database, engine_settings, registry.server_id, metrics.on_history_dropped
            )
            cache = await _add_routes(app, registry, engine_settings, history, registry_settings)
            keys = registry.keys
            guards = create_guards(
                engine_settings, registry_settings, keys, metrics.on_key_refusal, (), rates=None
            )
            app.user_middleware.extend(guards)
            config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
            server = app.state.server = uvicorn.Server(config)
            work = [*cache.work(), *history.work(cache.controller.snapshot), *registry.work(app)]
            async with run_in_background(app, work):
                serving = asyncio.create_task(server.serve(sockets=[listening]))
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                yield ConsoleServer(url, asyncio.get_running_loop(), cache, registry)
                server.should_exit = True
                await serving


async def _add_routes(
    app: FastAPI,
    registry: LocalRegistry,
    settings: EngineSettings,
    history: ServerHistory,
    registry_settings: RegistrySettings,
) -> Cache:
    service = registry.service
    cache = create_cache(
        Namespace(max_loras=SLOTS, max_cpu_loras=HOST_PLACES, max_lora_rank=MAX_RANK),
        settings,
        FakeBackend(slots=SLOTS, host_capacity=HOST_PLACES),
        CacheMetrics(CollectorRegistry()),
        PinnedResolver(RegistryResolver(service.catalog)),
        service,
        await registry.open_residency(is_replica=False),
        report_silence=lambda: None,
        observers=history.observers,
        tenancy=registry.tenants.tenancy,
    )
    probe = Probe(cache.controller, _score)
    service.set_usage_check(cache.uses)
    service.set_serving_engine(EnginePromotion(cache.controller, lambda: None, probe))
    for router in (
        *registry.routers(cache.controller.tenants.usage),
        create_probe_router(probe, cache.resolver),
        *cache.routers(registry.events.decision_streams, registry.tenants.grants.of),
        history.router(),
        create_health_router({"database": service.ping, "store": service.check_store}),
        create_settings_router(
            registry_settings,
            settings,
            {"model": str(ROOT / "demo" / "base"), "max_loras": SLOTS},
            service,
        ),
        create_console_router(),
    ):
        app.include_router(router)
    _add_models(app, service)
    return cache


def _add_models(app: FastAPI, service: RegistryService) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, list[dict[str, str]]]:
        """What the page for prompts offers, as vLLM lists it."""
        return {
            "data": [{"id": each.reference} for each in await service.catalog.served_references()]
        }


async def _score(version: AdapterVersion | None) -> Sequence[float]:
    """Each version differs from the base model."""
    return [-1.0, -2.0] if version is None else [-1.5, -2.5]
