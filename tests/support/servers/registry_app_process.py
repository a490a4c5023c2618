"""Registry server without an engine: `run` is called in a process of its own."""

import asyncio
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from registry.api.ingest import create_ingest_router
from registry.api.router import create_router
from registry.database.engine import Database
from registry.inspection.base_model import BaseModel
from registry.notifications import open_notifications
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.storage.store import ArtifactStore
from registry.webhooks.retry_policy import WebhookLimits
from tests.support.servers.asgi_server import serving, take_in
from tests.support.servers.ingest_router import ingest_of

BASE = BaseModel(name="tiny", shapes=None)


async def serve(asked: dict[str, Any]) -> None:
    """`database`, `store`, `sources` and `port`; perhaps `limits`, of webhooks."""
    database = Database(asked["database"])
    sources = [Path(asked["sources"])]
    store = ArtifactStore(Path(asked["store"]), source_roots=sources, max_bytes=2**30)
    await asyncio.to_thread(store.open)
    service = RegistryService(database, store, BASE, max_rank=16)
    ingest = ingest_of(service)
    settings = RegistrySettings(allowed_networks=("127.0.0.1",))
    async with open_notifications(
        database, settings, WebhookLimits(**asked.get("limits", {}))
    ) as parts:
        app = FastAPI()
        take_in(app, create_router(service), create_ingest_router(ingest), *parts.routers)
        async with serving(app, asked["port"]):
            events = parts.run(lambda: bool(app.state.server.should_exit))
            await asyncio.gather(events, ingest.run())


def run(asked: dict[str, Any], log: Path) -> None:
    """With both outputs appended to `log`."""
    with log.open("ab") as sink:
        for standard in (1, 2):
            os.dup2(sink.fileno(), standard)
    asyncio.run(serve(asked))
