r"""A registry server without an engine, as a process of its own that a test may kill.

python -m tests.support.servers.registry_app_process \
    '{"database": …, "store": …, "sources": …, "port": …, "limits": {…}?}'
"""

import asyncio
import json
import sys
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


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
