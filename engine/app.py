"""Puts the parts together and takes them apart again: registry, engine, controller, application."""

import asyncio
import logging
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
from engine.policy import CachePolicy
from engine.resolver import RegistryResolver
from engine.settings import EngineSettings
from engine.vllm_app import build_application
from engine.vllm_backend import LeasedAsyncLLM, VllmBackend
from registry.api import create_router
from registry.service import RegistryService

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A running engine with its controller, and the application that serves it."""

    app: FastAPI
    engine: LeasedAsyncLLM
    controller: CacheController
    backend: VllmBackend


@asynccontextmanager
async def running_server(
    arguments: Namespace, settings: EngineSettings, service: RegistryService
) -> AsyncIterator[Server]:
    """Start the engine and the controller; stop both on the way out."""
    engine = _start_engine(arguments)
    try:
        backend = VllmBackend(engine)
        lora = engine.vllm_config.lora_config
        policy = CachePolicy(
            slots=lora.max_loras, host_capacity=lora.max_cpu_loras, max_loads=settings.max_loads
        )
        metrics = CacheMetrics(max_adapter_labels=settings.max_adapter_labels)
        controller = CacheController(policy, backend, metrics, settings.limits())
        truth = _LastTruth(controller, settings.reconcile_seconds)
        metrics.watch(controller.snapshot, lambda: truth.in_step_loads)
        resolver = RegistryResolver(service)
        app = await build_application(
            engine,
            arguments,
            controller=controller,
            resolver=resolver,
            counter=metrics,
            served_references=service.served_references,
            routers=[
                create_router(service),
                create_cache_router(controller, resolver),
                create_health_router({"engine": engine.check_health, "database": service.ping}),
            ],
            max_body_bytes=settings.max_body_bytes,
        )
        background = [asyncio.create_task(controller.run()), asyncio.create_task(truth.keep())]
        try:
            yield Server(app, engine, controller, backend)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
    finally:
        engine.shutdown()


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
        version = registration.version
        state = "registered" if registration.created else "already registered"
        logger.info("%s is %s as %s:%d", folder, state, version.adapter, version.number)


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
