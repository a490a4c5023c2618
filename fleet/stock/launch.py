"""Launch of `adaptry serve --engines`: stock vLLM servers behind an ingress in this process."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import uvicorn

from engine.bootstrap.background import run_in_background
from engine.bootstrap.history import open_history
from engine.bootstrap.registry import open_database, register_folders
from engine.http.uvicorn_protocol import create_http_protocol
from engine.settings import EngineSettings
from fleet.ingress.app import Ingress, run_ingress
from fleet.messages import EngineFacts
from fleet.options import FleetOptions
from fleet.placement import Bound
from fleet.process import begin_process
from fleet.replica.replica import Replica
from fleet.stock.client import StockVllm
from fleet.stock.replica import StockSizes, Work, run_stock_replica
from fleet.stock.replicas import StockReplicas

logger = logging.getLogger(__name__)

_GRACEFUL_SECONDS = 5


def server_name(url: str) -> str:
    """Its host and port, which responses and the database show: without a password."""
    return urlsplit(url).netloc.rpartition("@")[2]


async def serve_stock(
    urls: Sequence[str],
    facts: EngineFacts,
    sizes: Sequence[StockSizes],
    options: FleetOptions,
    api_key: str | None,
    host: str,
    port: int,
) -> None:
    """Serve until SIGINT or SIGTERM; starts immediately, even if no server answers yet.

    `sizes`: of each server. `facts`: of them all, but for the largest rank of each.
    """
    begin_process(options)
    settings, registry = EngineSettings(**options.engine), options.registry_settings()
    bound = Bound(options.slack_requests, options.share_of_average)
    names = {server_name(url): url for url in urls}
    sizes_of = dict(zip(names, sizes, strict=True))
    facts_of = {name: replace(facts, max_rank=each.max_rank) for name, each in sizes_of.items()}
    replicas = StockReplicas(facts_of, bound)
    async with contextlib.AsyncExitStack() as stack:
        starting = run_ingress(replicas, settings, registry, expected=replicas.expected)
        ingress = await stack.enter_async_context(starting)
        database = await stack.enter_async_context(open_database(registry))
        await register_folders(ingress.service, options.adapters)
        work = []
        for name, url in names.items():
            server = StockVllm(
                url,
                api_key,
                load_seconds=settings.load_timeout_seconds,
                silent_seconds=settings.silent_answer_seconds,
            )
            stack.push_async_callback(server.close)
            dropped = ingress.metrics.on_history_dropped
            history = partial(open_history, database, settings, options.replica_name(name), dropped)
            replica = run_stock_replica(
                name,
                server,
                sizes_of[name],
                facts_of[name],
                settings.model_copy(update={"preload": ()}),
                ingress.service,
                database,
                history,
                is_base_declared=registry.base_id is not None,
            )
            work.append(_join(replicas, name, server.url, replica))
        await stack.enter_async_context(run_in_background(ingress.app, work))
        await _serve_http(ingress, settings, host, port)


async def _join(
    replicas: StockReplicas,
    name: str,
    url: str,
    running: AbstractAsyncContextManager[tuple[Replica, Sequence[Work]]],
) -> None:
    """Run the server's replica until cancelled; it survives restarts of the server."""
    async with running as (replica, work), asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)
        replicas.connected[name] = replica
        logger.info("%s has joined", url)


async def _serve_http(ingress: Ingress, settings: EngineSettings, host: str, port: int) -> None:
    config = uvicorn.Config(
        ingress.app,
        host=host,
        port=port,
        http=create_http_protocol(settings),
        access_log=False,
        proxy_headers=False,  # by default uvicorn would trust any process on this machine
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    ingress.app.state.server = server
    await server.serve()
