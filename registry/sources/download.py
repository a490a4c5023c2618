"""Downloads over any network protocol: a folder of files, or one archive."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from registry.errors import RegistryError, SourceDenied, SourceNotFound
from registry.inspection.foreign_folders import (
    MAX_STARTS,
    START_BYTES,
    TELLING_FILES,
    explain_missing_files,
)
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.archive import extract
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.disks.store_threads import STEPS
from registry.sources.quarantine import TAKEN_FILES, QuarantineWriter
from registry.sources.threads import run_in_thread, run_on_own_loop

MAX_LISTED = 1000
"""Names of a folder that are looked at, if it can be listed: they only explain what it holds."""

_ARCHIVE = "source.tar"
_EXPLAIN_SECONDS = 20.0  # for the same


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file whose download has started. `revision` identifies its state, if known."""

    chunks: AsyncIterator[bytes]
    size_bytes: int | None
    revision: str | None = None


class RemoteFiles(Protocol):
    """A connection to a remote source, for use on one event loop."""

    def open(self, name: str) -> AbstractAsyncContextManager[RemoteFile | None]:
        """The file of this name below the source's folder, or the source itself for ""; None
        if there is none.

        Raises SourceDenied, SourceUnavailable, SourceNotAllowed, AddressNotAllowed.
        """

    async def has(self, name: str) -> bool:
        """Whether there is such a file. Raises as `open` does."""

    async def weights(self) -> Sequence[str]:
        """Names of weights in the folder, as far as it can be listed; "" for the source itself."""


class Connect(Protocol):
    def __call__(self) -> AbstractAsyncContextManager[RemoteFiles]: ...


class RemoteSource:
    """Implements `Source`. Receives in a thread: a slow disk must not block the event loop."""

    def __init__(
        self,
        connect: Connect,
        shown: str,
        *,
        is_archive: bool,
    ) -> None:
        self._connect = connect
        self._shown = shown
        self._is_archive = is_archive

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`."""
        if not self._is_archive:
            return await run_on_own_loop(lambda: self._fetch_folder(into, limits, progress))
        archive = into / _ARCHIVE
        revision = await run_on_own_loop(lambda: self._fetch_archive(archive, limits, progress))
        unpacking = Progress()  # the download was already counted
        unpack = partial(extract, archive, into, limits, unpacking)
        fetched = await run_in_thread(unpack, unpacking.stop)
        await STEPS.run(archive.unlink)
        return FetchedSource(fetched.files, revision)

    async def _fetch_folder(
        self, into: Path, limits: FetchLimits, progress: Progress
    ) -> FetchedSource:
        writer = QuarantineWriter(into, limits, progress)
        revisions: dict[str, str | None] = {}
        async with self._connect() as files:
            for name in TAKEN_FILES:
                async with files.open(name) as file:
                    if file is not None:
                        await _take(file, name, writer)
                        revisions[name] = file.revision
                if name == CONFIG_FILE and name in revisions:
                    writer.check_config()
            if WEIGHTS_FILE not in revisions and await files.has(PICKLE_FILE):
                writer.mark_pickle()
            elif not revisions.keys() >= set(TAKEN_FILES):
                there = [name for name in TELLING_FILES if await files.has(name)]
                starts = [] if CONFIG_FILE in revisions else await self._starts(files)
                explain_missing_files([*revisions, *there], starts)
                if not revisions:
                    raise SourceNotFound(f"{self._shown} holds no adapter")
            for name in TRAINING_FILES:
                await _take_beside(files, name, writer)
        return writer.finish(revisions.get(WEIGHTS_FILE))

    async def _starts(self, files: RemoteFiles) -> list[tuple[str, bytes]]:
        """Of weights of any name: they only explain why there is no adapter."""
        starts = []
        with suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(_EXPLAIN_SECONDS):
                for name in (await files.weights())[:MAX_STARTS]:
                    async with files.open(name) as file:
                        if file is not None:
                            shown = name or self._shown.rpartition("/")[2]
                            starts.append((shown, await _start_of(file)))
        return starts

    async def _fetch_archive(
        self, archive: Path, limits: FetchLimits, progress: Progress
    ) -> str | None:
        writer = QuarantineWriter(archive.parent, limits, progress)
        async with self._connect() as files, files.open("") as file:
            if file is None:
                raise SourceNotFound(f"there is no {self._shown}")
            await _take(file, archive.name, writer)
            return file.revision


async def _start_of(file: RemoteFile) -> bytes:
    start = b""
    async for chunk in file.chunks:
        start += chunk
        if len(start) >= START_BYTES:
            break
    return start[:START_BYTES]


async def _take_beside(files: RemoteFiles, name: str, writer: QuarantineWriter) -> None:
    """The adapter is complete without it, if there is one that can't be had."""
    try:
        async with files.open(name) as file:
            if file is None:
                return
            with writer.open_beside(name) as target:
                async for chunk in file.chunks:
                    target.write(chunk)
                    if not target.has_room:
                        break
    except SourceDenied:  # S3's word for a missing file, if none may be listed
        return
    except RegistryError:
        writer.leave_beside(name)


async def _take(file: RemoteFile, name: str, writer: QuarantineWriter) -> None:
    if file.size_bytes is not None:
        writer.expect(file.size_bytes)
    with writer.open(name) as target:
        async for chunk in file.chunks:
            target.write(chunk)
