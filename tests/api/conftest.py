"""The registry's API over a real SQLite database, a real store and adapters made by hand."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import save_file

from registry.api import create_router
from registry.artifacts import ArtifactStore
from registry.base_model import BaseModel
from registry.db import Database
from registry.ingest import IngestService
from registry.ingest_api import create_ingest_router
from registry.net_guard import NetGuard
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.sources.opener import RemoteSources

WIDTH = 8
MODULE = "model.layers.0.self_attn.q_proj"
BASE = BaseModel(name="tiny", shapes={MODULE: (WIDTH, WIDTH)})

AdapterMaker = Callable[..., Path]


@pytest.fixture
def base_model() -> BaseModel:
    """What `make_adapter` makes adapters for."""
    return BASE


@pytest.fixture
def make_adapter(tmp_path: Path) -> AdapterMaker:
    """Writes a small PEFT folder; `seed` decides its weights."""

    def make(folder: str, *, seed: int = 0, rank: int = 4) -> Path:
        path = tmp_path / "sources" / folder
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

    return make


@pytest.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[RegistryService]:
    database = Database(database_url)
    sources = tmp_path / "sources"
    sources.mkdir()
    store = ArtifactStore(tmp_path / "store", source_roots=[sources], max_bytes=1_000_000)
    store.open()
    yield RegistryService(database, store, BASE, max_rank=16, reserved_names=frozenset({"tiny"}))
    await database.close()


@pytest.fixture
def ingest(service: RegistryService) -> IngestService:
    """Takes requests; tests of jobs run it."""
    sources = RemoteSources((), NetGuard())
    return IngestService(service, service._database, service._store, sources, RegistrySettings())


@pytest.fixture
async def client(
    service: RegistryService, ingest: IngestService
) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(create_router(service))
    app.include_router(create_ingest_router(ingest))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield client
