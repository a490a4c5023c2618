"""Job worker that kills itself at a step: `run` is called in a process of its own."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from registry.database.engine import Database
from registry.ingest.checkpoints import Checkpoint
from registry.ingest.registrar import Registrar
from registry.ingest.service import IngestService
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import Inspection
from registry.models.job import Job
from registry.quotas.service import TenantQuotas
from registry.settings import RegistrySettings
from registry.sources.base import Progress
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from registry.storage.file_locks import FileLock
from registry.storage.store import ArtifactStore

COPYING = "copying"
DIRECT_FETCHED, DIRECT_KEPT = "direct fetched", "direct kept"
POINTS = (*Checkpoint, COPYING)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingProgress(Progress):
    """Dies as soon as a byte is counted and before it is written."""

    def advance(self, more_bytes: int) -> None:
        super().advance(more_bytes)
        if more_bytes > 0:
            die()


class DyingRegistrar(Registrar):
    """Dies when a direct registration has its files in quarantine."""

    def inspect(self, folder: Path, remarks: Sequence[tuple[str, str]] = ()) -> Inspection:
        die()
        return super().inspect(folder, remarks)


class DyingStore(ArtifactStore):
    """Dies when files have just been renamed into the store."""

    def add(self, folder: Path, digest: str, *, is_sealed: bool = True) -> FileLock:
        lock = super().add(folder, digest, is_sealed=is_sealed)
        die()
        return lock


async def main(url: str, folder: Path, base: BaseModel, point: str, source: str) -> None:
    """Register `source`, or without one work off what is queued, and die at `point`."""
    store_class = DyingStore if point == DIRECT_KEPT else ArtifactStore
    registrar_class = DyingRegistrar if point == DIRECT_FETCHED else Registrar
    store = store_class(folder / "store", source_roots=[folder / "sources"], max_bytes=10_000_000)
    store.open()
    database = Database(url)
    registrar = registrar_class(database, store, base, TenantQuotas(database), max_rank=16)

    def watch(number: int, reached: Checkpoint) -> None:
        if reached == point:
            die()

    ingest = IngestService(
        registrar,
        database,
        store,
        RemoteSources((), EgressGuard()),
        RegistrySettings(max_direct_bytes=10_000_000 if point.startswith("direct") else 0),
        watch=watch,
        new_progress=DyingProgress if point == COPYING else Progress,
    )
    if source:
        job = await ingest.register("bot", source, actor="test", request={})
        assert isinstance(job, Job)
    await asyncio.wait_for(ingest.run(), 60)


def run(url: str, folder: Path, base: BaseModel, point: str, source: str) -> None:
    asyncio.run(main(url, folder, base, point, source))
