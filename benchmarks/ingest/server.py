"""Registry server of `benchmarks.ingest`, in a process with nothing else in its memory."""

import asyncio
import re
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from registry.api.ingest import create_ingest_router
from registry.database.engine import Database
from registry.ingest.service import IngestService
from registry.inspection.base_model import BaseModel
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from registry.storage.store import ArtifactStore

GIB = 2**30


def database_url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder}/registry.db"


async def serve(folder: Path) -> None:
    """Print the port, serve until standard input ends, then print the peak memory."""
    store = ArtifactStore(folder / "store", source_roots=[folder / "sources"], max_bytes=1024 * GIB)
    store.open()
    database = Database(database_url(folder))
    service = RegistryService(database, store, BaseModel("any", None), max_rank=64)
    settings = RegistrySettings()
    ingest = IngestService(
        service.registrar, database, store, RemoteSources((), EgressGuard()), settings
    )
    app = FastAPI()
    app.include_router(create_ingest_router(ingest))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    tasks = [asyncio.create_task(ingest.run()), asyncio.create_task(server.serve())]
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await tasks[1]
    tasks[0].cancel()
    await asyncio.wait(tasks)
    await database.close()
    print(peak_bytes())


def peak_bytes() -> int:
    """Peak resident memory. `ru_maxrss` would include what the parent had before `exec`."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return int(line) * 1024


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
