"""Registration rate: small adapters per second, durably, without their files."""

import asyncio
import itertools
import random
import secrets
import time
from pathlib import Path

from benchmarks.registry.rows import ADAPTERS, MODULES, adapter_name
from registry.catalog.types import Origin
from registry.database.engine import Database
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import Inspection
from registry.service import RegistryService
from registry.storage.store import ArtifactStore, StoredArtifact

Figures = dict[str, float]


SECONDS = 5.0
CLIENTS = (1, 16)
_FOUND = Inspection(
    rank=8,
    alpha=16.0,
    target_modules=MODULES[:2],
    dtype="bfloat16",
    size_bytes=500_000,
    base_model="llama",
    peft_config={"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": MODULES[:2]},
    shapes_checked=False,
)


async def registrations(database: Database, folder: Path) -> Figures:
    """By number of concurrent clients; each waits until its version is on disk."""
    store = ArtifactStore(folder / "store", source_roots=(), max_bytes=1)
    store.open()
    service = RegistryService(database, store, BaseModel("llama", None), max_rank=64)
    await _rate(service, clients=1, seconds=1.0)  # opens connections, fills caches
    return {
        f"registration, {n} at a time, /s": await _rate(service, clients=n, seconds=SECONDS)
        for n in CLIENTS
    }


async def _rate(service: RegistryService, *, clients: int, seconds: float) -> float:
    rng, done = random.Random(), itertools.count()
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < began + seconds:
            name = adapter_name(rng.randrange(ADAPTERS))
            artifact = _new_files()
            await service.registrar.publish(name, Origin("/srv/new", None, "benchmark"), artifact)
            next(done)

    await asyncio.gather(*(client() for _ in range(clients)))
    return next(done) / (time.perf_counter() - began)


def _new_files() -> StoredArtifact:
    """Inspection results, as if the files had been verified."""
    return StoredArtifact(secrets.token_hex(32), Path("/srv/new"), _FOUND.size_bytes, _FOUND)
