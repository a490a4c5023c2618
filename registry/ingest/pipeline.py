"""The last steps of every ingest, direct or as a job: inspect, keep, and then a row."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from registry.inspection.inspector import Inspection
from registry.sources.base import FetchedSource
from registry.sources.threads import in_thread, to_its_end
from registry.storage.integrity import manifest_digest
from registry.storage.store import ArtifactStore, StoredArtifact, Workspace, storing

Found = TypeVar("Found")


@asynccontextmanager
async def new_workspace(store: ArtifactStore) -> AsyncIterator[Workspace]:
    """As `fresh_workspace`, for as long as the block takes."""
    workspace = await fresh_workspace(store)
    try:
        yield workspace
    finally:
        await closed(workspace)


async def fresh_workspace(store: ArtifactStore) -> Workspace:
    """One with a name that nobody had before, to be `closed`. Raises StoreUnavailable."""
    workspace = await opened_workspace(store, secrets.token_hex(16))
    if workspace is None:
        raise RuntimeError("a random name was taken")
    return workspace


async def opened_workspace(store: ArtifactStore, name: str) -> Workspace | None:
    """None if somebody has it. Raises StoreUnavailable."""
    with storing():
        return await to_its_end(asyncio.to_thread(store.workspace, name))


async def closed(workspace: Workspace) -> None:
    """Removing much takes a while."""
    await to_its_end(asyncio.to_thread(workspace.close))


async def inspected(folder: Path, inspect: Callable[[Path], Found]) -> Found:
    """Raises what `inspect` raises, StoreUnavailable."""
    with storing():
        return await in_thread(lambda: inspect(folder), lambda: None)


@asynccontextmanager
async def kept(
    store: ArtifactStore, folder: Path, fetched: FetchedSource, inspection: Inspection
) -> AsyncIterator[StoredArtifact]:
    """Its files are in the store, and stay there if the block writes a row for them.

    If the block fails, the sweep looks at them. Raises StoreUnavailable.
    """
    digest = manifest_digest((file.name, file.size_bytes, file.hash) for file in fetched.files)
    with storing():
        claim = await to_its_end(asyncio.to_thread(store.keep, folder, digest))
    try:
        yield StoredArtifact(digest, store.path_of(digest), inspection.size_bytes, inspection)
    except BaseException:
        claim.abandon()
        raise
    claim.release()
