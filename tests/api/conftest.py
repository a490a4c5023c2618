"""The registry's API over real databases, a real store and handmade adapters."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import save_file

from adaptry.cli import main
from registry.api.access.keys import create_key_router
from registry.api.access.rates import create_rate_router
from registry.api.access.tenants import create_tenant_router
from registry.api.ingest import create_ingest_router
from registry.api.prompts import create_prompt_router
from registry.api.router import create_router
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.http.authentication import AuthenticationMiddleware
from registry.ingest.service import IngestService
from registry.inspection.base_model import BaseModel
from registry.notifications import Notifications, open_notifications
from registry.prompts.service import PromptSetService
from registry.quotas.limit_queries import read_limits
from registry.quotas.service import TenantQuotas
from registry.rates.usage import RateUsage
from registry.rates.windows import RateWindows
from registry.references import tenant_of
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from registry.tenants.service import TenantService
from registry.webhooks.retry_policy import WebhookLimits
from tests.api.keyed_client import Asked
from tests.support.read_settings import read_settings
from tests.support.servers.asgi_server import serving, take_in
from tests.support.servers.ingest_router import ingest_of
from tests.support.servers.lazy_routes import lazy_routes
from tests.support.servers.webhook_receiver import Receiver, receiving

WIDTH = 8
MODULE = "model.layers.0.self_attn.q_proj"
BASE = BaseModel(name="tiny", shapes={MODULE: (WIDTH, WIDTH)})

QUICK_WEBHOOKS = WebhookLimits(
    timeout_seconds=5, first_backoff_seconds=0.02, max_backoff_seconds=1, poll_seconds=0.05
)

AdapterMaker = Callable[..., Path]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


def write_adapter(path: Path, *, seed: int = 0, rank: int = 4) -> Path:
    """A small PEFT folder; `seed` decides its weights."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    prefix = f"base_model.model.{MODULE}"
    tensors = {
        f"{prefix}.lora_A.weight": rng.random((rank, WIDTH), dtype=np.float32),
        f"{prefix}.lora_B.weight": rng.random((WIDTH, rank), dtype=np.float32),
    }
    save_file(tensors, path / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "tiny",
    }
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module", autouse=True)
def lazily() -> Iterator[None]:
    with lazy_routes():
        yield


@pytest.fixture
def base_model() -> BaseModel:
    """What `make_adapter` makes adapters for."""
    return BASE


@pytest.fixture
def make_adapter(tmp_path: Path) -> AdapterMaker:
    """`write_adapter` where the service may register from."""

    def make(folder: str, *, seed: int = 0, rank: int = 4) -> Path:
        return write_adapter(tmp_path / "sources" / folder, seed=seed, rank=rank)

    return make


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def service(tmp_path: Path, database: Database) -> RegistryService:
    sources = tmp_path / "sources"
    sources.mkdir()
    store = ArtifactStore(tmp_path / "store", source_roots=[sources], max_bytes=1_000_000)
    store.open()
    return RegistryService(database, store, BASE, max_rank=16, reserved_names=frozenset({"tiny"}))


@pytest.fixture
def ingest(service: RegistryService) -> IngestService:
    """Takes requests; tests of jobs run it."""
    return ingest_of(service)


@pytest.fixture
def webhook_limits() -> WebhookLimits:
    """On PostgreSQL each poll is a query, and a test lasts for many if they are quick."""
    return replace(QUICK_WEBHOOKS, poll_seconds=WebhookLimits().poll_seconds)


@pytest.fixture
async def running_events(
    database: Database, webhook_limits: WebhookLimits
) -> AsyncIterator[tuple[Notifications, asyncio.Task[None]]]:
    async with open_notifications(database, read_settings("127.0.0.1"), webhook_limits) as parts:
        running = asyncio.create_task(parts.run(lambda: False))
        yield parts, running
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def events(running_events: tuple[Notifications, asyncio.Task[None]]) -> Notifications:
    return running_events[0]


@pytest.fixture
def end_events(
    running_events: tuple[Notifications, asyncio.Task[None]],
) -> Callable[[], Awaitable[None]]:
    """Ends the application's own dispatcher of webhooks, so that another server has to deliver."""

    async def end() -> None:
        _, running = running_events
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    return end


@pytest.fixture
def app(
    service: RegistryService, ingest: IngestService, events: Notifications, database: Database
) -> FastAPI:
    app = FastAPI()
    quotas = TenantQuotas(database, tenant_of, read_limits)
    prompts = create_prompt_router(PromptSetService(database, quotas))
    take_in(app, create_router(service), create_ingest_router(ingest), prompts, *events.routers)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield client


@pytest.fixture
async def asked(app: FastAPI, database: Database) -> AsyncIterator[Asked]:
    """With the key `root` to begin with."""
    keys = KeyService(database)
    take_in(
        app,
        create_key_router(keys),
        create_tenant_router(TenantService(database), keys),
        create_rate_router(RateUsage(database, RateWindows())),
    )
    transport = httpx.ASGITransport(
        app=AuthenticationMiddleware(app, authenticate=keys.authenticate)
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        asked = Asked(http, keys)
        await asked.key("root", Scope.ADMIN)
        yield asked


@pytest.fixture
async def run(app: FastAPI, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Run]:
    """Exit code, standard output and standard error of `adaptry …`, against a real server."""
    async with serving(app) as url:

        async def command(*arguments: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(main, [*arguments, "--server", url])
            captured = capfd.readouterr()
            return code, captured.out, captured.err

        yield command


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started
