"""Versions of another base model in a server's registry, as a server of that one adds them."""

from dataclasses import replace
from pathlib import Path

from registry.database.engine import Database
from registry.database.urls import async_url
from registry.inspection.base_identity import BaseIdentity, identity_of
from registry.inspection.base_model import read_base_model
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from tests.support.servers.adaptry_serve import ROOT

BASE = ROOT / "demo" / "base"

INSTRUCT = identity_of(str(BASE), BASE, declared="instruct")
NEXT_REVISION = identity_of(str(BASE), BASE, declared="base@000000000000")
OTHERS = (INSTRUCT, NEXT_REVISION)
"""Of the demo model's shape."""


async def register_for(
    base: BaseIdentity, name: str, task: str, *, database_url: str, store: Path
) -> str:
    """Register the demo's adapter of a task under a name; its reference."""
    database = Database(async_url(database_url))
    files = ArtifactStore(store, source_roots=[ROOT / "demo"], max_bytes=2**24)
    files.open()
    model = replace(read_base_model("demo", BASE), read=base)
    service = RegistryService(database, files, model, max_rank=16)
    source = str(ROOT / "demo" / "adapters" / task)
    try:
        registered = await service.registrar.register(name, source, actor="elsewhere")
    finally:
        await database.close()
    return registered.published.reference
