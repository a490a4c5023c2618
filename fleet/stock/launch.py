"""`adaptry serve --engines`: stock vLLM servers behind an entrance in this process."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import uvicorn

from engine.bootstrap.background import background
from engine.bootstrap.registry import open_database, register_folders
from engine.http.uvicorn_protocol import guarded_http
from engine.settings import EngineSettings
from fleet.ingress.app import Entrance, running_entrance
from fleet.messages import EngineFacts
from fleet.options import FleetOptions
from fleet.placement import Bound
from fleet.process import begin_process
from fleet.stock.client import StockVllm
from fleet.stock.replica import StockSizes, stock_replica
from fleet.stock.replicas import StockReplicas
from registry.database.engine import Database

logger = logging.getLogger(__name__)

_GRACEFUL_SECONDS = 5


async def serve_stock(
    urls: Sequence[str],
    facts: EngineFacts,
    sizes: StockSizes,
    options: FleetOptions,
    api_key: str | None,
    host: str,
    port: int,
) -> None:
    """Serve until SIGINT or SIGTERM; at once, also while no server answers yet."""
    begin_process(options)
    settings, registry = EngineSettings(**options.engine), options.registry_settings()
    bound = Bound(options.slack_requests, options.share_of_average)
    names = {urlsplit(url).netloc: url for url in urls}
    replicas = StockReplicas(list(names), facts, bound)
    async with contextlib.AsyncExitStack() as stack:
        starting = running_entrance(replicas, settings, registry, expected=len(names))
        entrance = await stack.enter_async_context(starting)
        database = await stack.enter_async_context(open_database(registry))
        await register_folders(entrance.service, options.adapters)
        work = []
        for name, url in names.items():
            server = StockVllm(url, api_key, load_seconds=settings.load_timeout_seconds)
            stack.push_async_callback(server.close)
            joining = _join(replicas, name, server, sizes, facts, settings, entrance, database)
            work.append(joining)
        await stack.enter_async_context(background(entrance.app, work))
        await _serve_http(entrance, settings, host, port)


async def _join(
    replicas: StockReplicas,
    name: str,
    server: StockVllm,
    sizes: StockSizes,
    facts: EngineFacts,
    settings: EngineSettings,
    entrance: Entrance,
    database: Database,
) -> None:
    """As long as the server lives, and again when it comes back; until cancelled."""
    settings = settings.model_copy(update={"preload": ()})
    made = stock_replica(name, server, sizes, facts, settings, entrance.service, database)
    async with made as (replica, work), asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)
        replicas.there[name] = replica
        logger.info("%s has joined", server.url)


async def _serve_http(entrance: Entrance, settings: EngineSettings, host: str, port: int) -> None:
    config = uvicorn.Config(
        entrance.app,
        host=host,
        port=port,
        http=guarded_http(settings),
        access_log=False,
        proxy_headers=False,  # by default it would believe any process on this machine
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    entrance.app.state.server = server
    await server.serve()
