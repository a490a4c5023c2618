"""The registry with its jobs, served over real HTTP in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from registry.api.ingest import create_ingest_router
from registry.api.router import create_router
from registry.database.engine import Database
from registry.ingest.checkpoints import CheckpointObserver, null_checkpoint_observer
from registry.ingest.precedence import NO_REQUESTS, Requests
from registry.ingest.service import IngestService
from registry.inspection.base_model import BaseModel
from registry.inspection.training_files import MAX_FILE_BYTES
from registry.notifications import open_notifications
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from registry.storage.store import ArtifactStore
from registry.telemetry.metrics import RegistryMetrics
from tests.support.servers.asgi_server import serving, take_in

Json = dict[str, Any]

LOOPBACK = EgressGuard(allowed=(ip_network("127.0.0.1/32"),))
PATIENCE_SECONDS = 60  # of a client, on a machine that does much else
UNFINISHED = ("receiving", "queued", "running")


@dataclass(slots=True)
class Registry:
    """A running registry, from outside (`http`) and from inside."""

    http: httpx.AsyncClient
    ingest: IngestService
    service: RegistryService
    store: Path
    working: asyncio.Task[None] | None

    def stop_working(self) -> None:
        """As at the end of the server."""
        assert self.working
        self.working.cancel()

    async def register(self, name: str, source: str | Path, **more: Any) -> httpx.Response:
        path = f"/adapters/{name}/versions"
        return await self.http.post(path, json={"source": str(source), **more})

    async def job(self, number: int) -> Json:
        response = await self.http.get(f"/jobs/{number}")
        assert response.status_code == 200, response.text
        job: Json = response.json()
        return job

    async def until(self, number: int, reached: Callable[[Json], bool]) -> Json:
        """The job's state as soon as it is as wanted."""
        async with asyncio.timeout(30):
            while not reached(job := await self.job(number)):
                await asyncio.sleep(0.02)
        return job

    async def end_of(self, number: int) -> Json:
        return await self.until(number, lambda job: job["state"] not in UNFINISHED)

    async def finished(self, response: httpx.Response) -> Json:
        """How the job of a 202 ends."""
        assert response.status_code == 202, response.text
        number = response.json()["id"]
        assert response.headers["location"] == f"/api/v1/jobs/{number}"
        return await self.end_of(number)

    async def no_leftovers(self) -> None:
        """Neither in quarantine nor between store and rows; a running job may take a while."""
        async with asyncio.timeout(10):
            while leftovers := self.leftovers():
                await asyncio.sleep(0.02)
        assert not leftovers

    def leftovers(self) -> list[str]:
        names = ("quarantine", "arriving")
        return [str(path) for name in names for path in (self.store / name).iterdir()]

    async def keeps_one(self) -> None:
        """Files that were there already are removed after the answer."""
        async with asyncio.timeout(10):
            while len(self.kept()) > 1:
                await asyncio.sleep(0.02)
        assert len(self.kept()) == 1

    def kept(self) -> set[str]:
        """The digests whose files are in the store."""
        return {path.name for path in (self.store / "adapters").glob("*/*")}


@asynccontextmanager
async def running_registry(
    database_url: str,
    folder: Path,
    base: BaseModel,
    *,
    works: bool = True,
    hub_endpoint: str | None = None,
    watch: CheckpointObserver = null_checkpoint_observer,
    metrics: RegistryMetrics | None = None,
    requests: Requests = NO_REQUESTS,
    **settings: Any,
) -> AsyncIterator[Registry]:
    """`works` False: requests are accepted, but jobs are not executed."""
    database = Database(database_url, observer=metrics)
    store = opened_store(folder, settings)
    service = RegistryService(
        database, store, base, max_rank=16, reserved_names=frozenset({"tiny"})
    )
    sources = RemoteSources(("http://", "hf://", "s3://team"), LOOPBACK, hub_endpoint=hub_endpoint)
    given = RegistrySettings(**settings)
    ingest = IngestService(
        service.registrar, database, store, sources, given, watch=watch, requests=requests
    )
    if metrics is not None:
        service.registrar.observe_outcomes(metrics.on_ingest_outcome)
    app = FastAPI()
    working = asyncio.create_task(ingest.run()) if works else None
    try:
        async with open_notifications(database, given) as events, AsyncExitStack() as stack:
            take_in(app, create_router(service), create_ingest_router(ingest), *events.routers)
            url = await stack.enter_async_context(serving(app))
            http = httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=PATIENCE_SECONDS)
            await stack.enter_async_context(http)
            yield Registry(http, ingest, service, folder / "store", working)
    finally:
        if working is not None:
            assert not working.done() or working.cancelled(), "it must not end on its own"
            working.cancel()
            await asyncio.wait({working})
        await database.close()


def opened_store(folder: Path, settings: Json) -> ArtifactStore:
    (folder / "sources").mkdir(exist_ok=True)
    store = ArtifactStore(
        folder / "store",
        source_roots=[folder / "sources"],
        max_bytes=settings.get("max_adapter_bytes", 10_000_000),
        max_files=settings.get("max_source_files", 100),
        max_training_file_bytes=settings.get("max_training_file_bytes", MAX_FILE_BYTES),
    )
    store.open()
    return store
