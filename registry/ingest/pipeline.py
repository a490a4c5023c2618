"""Pipeline of every registration, direct or as a job: workspace, inspect, keep, close."""

import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from registry.ingest.normalisation import normalise_names
from registry.ingest.precedence import Rest
from registry.inspection.inspector import Inspection
from registry.inspection.training_files import FOLDER as TRAINING_FOLDER
from registry.sources.base import FetchedSource, FetchLimits, Progress, Source
from registry.sources.disks.store_threads import STEPS, WORK
from registry.sources.threads import run_in_thread, run_to_completion
from registry.sources.upload import UploadedSource
from registry.storage.file_locks import FileLock
from registry.storage.integrity import manifest_digest, write_fingerprint
from registry.storage.store import ArtifactStore, StoredArtifact, storage_errors
from registry.storage.workspace import Workspace

Found = TypeVar("Found")


@asynccontextmanager
async def new_workspace(store: ArtifactStore) -> AsyncIterator[Workspace]:
    """Context manager around `create_workspace`."""
    workspace = await create_workspace(store)
    try:
        yield workspace
    finally:
        await close_workspace(workspace)


async def create_workspace(store: ArtifactStore, *, for_upload: bool = False) -> Workspace:
    """A workspace with a new random name, and its folder for an upload. Raises StoreUnavailable."""
    while True:
        workspace = await open_workspace(store, secrets.token_hex(16), for_upload=for_upload)
        if workspace is not None:
            return workspace
        # the cleanup locked it between the creation of its lock file and our lock: it will go


async def open_workspace(
    store: ArtifactStore, name: str, *, for_upload: bool = False
) -> Workspace | None:
    """None if it is locked. Raises StoreUnavailable."""
    with storage_errors():
        opening = partial(store.workspace, name, for_upload=for_upload)
        return await STEPS.run(opening, _close if for_upload else _leave)


async def close_workspace(workspace: Workspace, published: Path | None = None) -> None:
    """Close it in a thread: deleting large files takes a while, and goes on if the store hangs.

    `published`: stored files that may have been hard links, whose deletion changes the ctime.
    """

    def close() -> None:
        workspace.close()
        if published is not None:
            with suppress(OSError):
                write_fingerprint(published)

    await run_to_completion(STEPS.finish(close))


async def fetch(
    source: Source, folder: Path, limits: FetchLimits, progress: Progress
) -> FetchedSource:
    """Fetch the files, and give the tensors PEFT's names if they have others.

    Raises what `Source.fetch` raises, StoreUnavailable.
    """
    with storage_errors():
        fetched = await source.fetch(folder, limits, progress)
        rewriting = Progress()  # the bytes were already counted
        rewrite = partial(normalise_names, folder, fetched, rewriting)
        return await run_in_thread(rewrite, rewriting.stop)


async def take_upload(
    store: ArtifactStore,
    workspace: Workspace,
    limits: FetchLimits,
    progress: Progress,
    check: Callable[[Path, FetchedSource], Inspection],
    rest: Rest,
) -> tuple[FetchedSource, StoredArtifact]:
    """`fetch`, `inspect` and `keep` of a small upload in one thread: changing threads costs more.

    The workspace holds the lock of the stored files. Raises what those raise.
    """
    rewriting = Progress()

    def take() -> tuple[FetchedSource, StoredArtifact]:
        folder = workspace.empty_folder()
        fetched = UploadedSource(workspace.uploaded()).take(folder, limits, progress)
        fetched = normalise_names(folder, fetched, rewriting)
        inspection = check(folder, fetched)
        rest.take_in_thread()
        progress.advance(0)  # raises Stopped
        artifact, lock = _add(store, folder, fetched, inspection, is_sealed=False)
        workspace.hold(lock)
        return fetched, artifact

    def stop() -> None:
        progress.stop()
        rewriting.stop()

    with storage_errors():
        return await run_in_thread(take, stop)


async def inspect(folder: Path, check: Callable[[Path], Found]) -> Found:
    """Run a check of the files in a thread. Raises what `check` raises, StoreUnavailable."""
    with storage_errors():
        return await run_in_thread(lambda: check(folder), lambda: None)


@asynccontextmanager
async def keep(
    store: ArtifactStore, folder: Path, fetched: FetchedSource, inspection: Inspection
) -> AsyncIterator[StoredArtifact]:
    """Add the files to the store; they stay if the block writes a row for them.

    If the block fails, or no version uses them, the cleanup checks them. Raises StoreUnavailable.
    """
    adding = partial(_add, store, folder, fetched, inspection)
    with storage_errors():
        artifact, lock = await WORK.run(adding, lambda late: late[1].abandon())
    try:
        yield artifact
    except BaseException:
        await run_to_completion(STEPS.finish(lock.abandon))
        raise
    await run_to_completion(STEPS.finish(lock.release if artifact.is_used else lock.abandon))


def _close(late: Workspace | None) -> None:
    """A new one."""
    if late is not None:
        late.close()


def _leave(late: Workspace | None) -> None:
    """It may have an upload, for another attempt."""
    if late is not None:
        late.is_needed = True
        late.close()


def _add(
    store: ArtifactStore,
    folder: Path,
    fetched: FetchedSource,
    inspection: Inspection,
    *,
    is_sealed: bool = True,
) -> tuple[StoredArtifact, FileLock]:
    """Runs in a thread. Raises OSError."""
    digest = manifest_digest((file.name, file.size_bytes, file.hash) for file in fetched.files)
    shutil.rmtree(folder / TRAINING_FOLDER, ignore_errors=True)
    lock = store.add(folder, digest, is_sealed=is_sealed)
    return StoredArtifact(digest, store.path_of(digest), inspection.size_bytes, inspection), lock
