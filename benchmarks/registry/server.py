"""Registry application without an engine, started as `adaptry serve` starts it.

python -m benchmarks.registry.server DATABASE_URL FOLDER CORE
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from engine.bootstrap.registry import open_database
from registry.api.router import create_router
from registry.inspection.base_model import BaseModel
from registry.notifications import open_notifications
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.storage.store import ArtifactStore


async def serve(settings: RegistrySettings) -> None:
    """Print the port once it listens, which is before it can respond."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listening.getsockname()[1], flush=True)
    store = ArtifactStore(settings.store, source_roots=(), max_bytes=settings.max_adapter_bytes)
    await asyncio.to_thread(store.open)
    async with open_database(settings) as database:
        service = RegistryService(database, store, BaseModel("any", None), max_rank=64)
        await service.recover()
        async with open_notifications(database, settings) as events:
            app = FastAPI()
            for router in (create_router(service), *events.routers):
                app.include_router(router)
            config = uvicorn.Config(app, log_level="warning", access_log=False)
            server = uvicorn.Server(config)
            following = asyncio.create_task(events.run(lambda: server.should_exit))
            await server.serve(sockets=[listening])
            following.cancel()
            await asyncio.wait([following])


def main() -> None:
    url, folder, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    settings = RegistrySettings(database_url=url, store=Path(folder))
    loop_factory = uvicorn.Config("").get_loop_factory()  # uvloop's, as `adaptry serve` has it
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(settings))


if __name__ == "__main__":
    main()
