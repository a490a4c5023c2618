"""Puts the parts together and takes them apart again: registry, engine, controller, application."""

import asyncio
import logging
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from engine import vllm_api
from engine.api import create_cache_router
from engine.controller import CacheController
from engine.health import create_health_router
from engine.metrics import CacheMetrics
from engine.model_folder import local_model_folder
from engine.policy import CachePolicy
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.vllm_app import build_application
from engine.vllm_backend import LeasedAsyncLLM, VllmBackend, connected_backend
from registry.api import create_router
from registry.artifacts import ArtifactStore
from registry.base_model import read_base_model
from registry.db import Database
from registry.migrate import upgrade
from registry.service import RegistryService
from registry.settings import RegistrySettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A running engine with its controller, and the application that serves it."""

    app: FastAPI
    engine: LeasedAsyncLLM
    controller: CacheController
    backend: VllmBackend
    service: RegistryService


@asynccontextmanager
async def running_server(
    arguments: Namespace, settings: EngineSettings, registry_settings: RegistrySettings
) -> AsyncIterator[Server]:
    """Start registry, engine and controller; stop them in the reverse order on the way out."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_open_database(registry_settings))
        engine = _start_engine(arguments)
        stack.callback(engine.shutdown)
        service = await _registry_service(arguments, engine, database, registry_settings)
        backend = await stack.enter_async_context(connected_backend(engine))
        metrics = CacheMetrics(max_adapter_labels=settings.max_adapter_labels)
        controller = CacheController(_policy(engine, settings), backend, metrics, settings.limits())
        truth = _LastTruth(controller, settings.reconcile_seconds)
        metrics.watch(controller.snapshot, lambda: truth.in_step_loads)
        stack.callback(metrics.close)
        resolver = RegistryResolver(service.catalog)
        app = await build_application(
            engine,
            arguments,
            controller=controller,
            resolver=resolver,
            counter=metrics,
            served_references=service.catalog.served_references,
            routers=[
                create_router(service),
                create_cache_router(controller, resolver),
                create_health_router({"engine": engine.check_health, "database": service.ping}),
            ],
            max_body_bytes=settings.max_body_bytes,
        )
        await stack.enter_async_context(_background(controller.run(), truth.keep()))
        yield Server(app, engine, controller, backend, service)


@asynccontextmanager
async def _open_database(settings: RegistrySettings) -> AsyncIterator[Database]:
    await asyncio.to_thread(upgrade, settings.database_url)
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _policy(engine: LeasedAsyncLLM, settings: EngineSettings) -> CachePolicy:
    lora = engine.vllm_config.lora_config
    return CachePolicy(
        slots=lora.max_loras, host_capacity=lora.max_cpu_loras, max_loads=settings.max_loads
    )


async def _registry_service(
    arguments: Namespace,
    engine: LeasedAsyncLLM,
    database: Database,
    settings: RegistrySettings,
) -> RegistryService:
    """For the base model that this engine serves, once its files are there."""
    served = arguments.served_model_name or [arguments.model]
    base_model = await asyncio.to_thread(
        read_base_model, served[0], local_model_folder(arguments.model)
    )
    if base_model.shapes is None:
        logger.warning("no safetensors of the base model here: adapter shapes can't be checked")
    store = ArtifactStore(
        settings.store.resolve(),
        source_roots=settings.source_roots,
        max_bytes=settings.max_adapter_bytes,
    )
    await asyncio.to_thread(store.open)
    return RegistryService(
        database,
        store,
        base_model,
        max_rank=engine.vllm_config.lora_config.max_lora_rank,
        reserved_names=frozenset(served),
    )


class _LastTruth:
    """Compares with the engine now and then; keeps the last count for the metrics."""

    def __init__(self, controller: CacheController, every_seconds: float) -> None:
        self._controller = controller
        self._every_seconds = every_seconds
        self.in_step_loads = 0

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                self.in_step_loads = (await self._controller.reconcile()).in_step_loads
            except Exception:
                logger.exception("the engine could not be asked what it holds")


def _start_engine(arguments: Namespace) -> LeasedAsyncLLM:
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
        usage_context=UsageContext.OPENAI_API_SERVER
    )
    engine: LeasedAsyncLLM = LeasedAsyncLLM.from_vllm_config(
        config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=arguments.enable_log_requests,
        disable_log_stats=arguments.disable_log_stats,
    )
    return engine


async def register_folders(service: RegistryService, folders: Sequence[tuple[str, Path]]) -> None:
    """Register what `--lora-path` names; content that is known already stays as it is."""
    for name, folder in folders:
        registration = await service.register(name, str(folder), actor="command line")
        state = "registered" if registration.created else "already registered"
        logger.info("%s is %s as %s", folder, state, registration.published.reference)


async def serve_forever(server: Server, arguments: Namespace, listening: socket.socket) -> None:
    """Serve until SIGINT, SIGTERM or the engine's death, with vLLM's own HTTP server."""
    shutdown = await vllm_api.serve_http()(
        server.app,
        sock=listening,
        host=arguments.host,
        port=arguments.port,
        log_level=arguments.uvicorn_log_level,
        access_log=not arguments.disable_uvicorn_access_log,
        ssl_keyfile=arguments.ssl_keyfile,
        ssl_certfile=arguments.ssl_certfile,
        ssl_ca_certs=arguments.ssl_ca_certs,
        ssl_cert_reqs=arguments.ssl_cert_reqs,
        h11_max_incomplete_event_size=arguments.h11_max_incomplete_event_size,
        h11_max_header_count=arguments.h11_max_header_count,
    )
    await shutdown
