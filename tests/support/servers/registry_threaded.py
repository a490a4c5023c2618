"""The registry alone over real HTTP, for the command line and the documents: no engine."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from registry.api.access.whoami import create_whoami_router
from registry.api.router import create_router
from registry.auth.keys import KeyService
from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.inspection.base_identity import identity_of
from registry.inspection.base_model import read_base_model
from registry.notifications import open_notifications
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.storage.store import ArtifactStore
from tests.support.servers.asgi_server import take_in
from tests.support.servers.ingest_router import ingest_router

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def registry_server(state: Path) -> Iterator[str]:
    """Its URL. Takes the demo's adapters, for the demo's base model."""
    url = f"sqlite+aiosqlite:///{state}/registry.db"
    upgrade(url)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who comes before the server has started waits for it
        app = _application(url, state)
        server = app.state.server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _application(url: str, state: Path) -> FastAPI:
    database = Database(url)
    folder = ROOT / "demo" / "base"
    base_model = replace(read_base_model("demo", folder), read=identity_of(str(folder), folder))
    store = ArtifactStore(state / "store", source_roots=[ROOT / "demo"], max_bytes=2**24)
    store.open()
    service = RegistryService(database, store, base_model, max_rank=64)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings = RegistrySettings(allowed_networks=("127.0.0.1",))
        async with open_notifications(database, settings) as events:
            take_in(app, *events.routers, create_whoami_router(KeyService(database)))
            running = asyncio.create_task(events.run(lambda: app.state.server.should_exit))
            yield
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await database.close()

    app = FastAPI(lifespan=lifespan)
    take_in(app, create_router(service))
    take_in(app, ingest_router(service))
    return app
