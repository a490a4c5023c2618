"""Quarantine writer: counts, hashes and writes the bytes of every source."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from registry.errors import SourceTooLarge
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.training_files import FOLDER as TRAINING_FOLDER
from registry.inspection.training_files import NEW_EMBEDDINGS
from registry.sources.base import FetchedFile, FetchedSource, FetchLimits, Progress
from registry.sources.beside import unread_remarks

TAKEN_FILES = (CONFIG_FILE, WEIGHTS_FILE)
ADAPTER_FILES = frozenset({*TAKEN_FILES, PICKLE_FILE})

CHUNK_BYTES = 4 * 2**20


class QuarantineWriter:
    """Writes the files of one adapter to one folder. Not thread-safe."""

    def __init__(self, into: Path, limits: FetchLimits, progress: Progress) -> None:
        self._into = into
        self._limits = limits
        self._progress = progress
        self._left_bytes = limits.written_bytes
        self._files: list[FetchedFile] = []
        self._unread: list[str] = []

    def expect(self, size_bytes: int) -> None:
        """Announce a file of this size. Raises SourceTooLarge, TenantLimit."""
        if size_bytes > self._left_bytes:
            raise self._limits.excess()
        self._progress.expect(size_bytes)

    def open(self, name: str) -> "IncomingFile":
        """A file to write to, for use as a context manager."""
        return IncomingFile(self, self._into / name)

    def mark_pickle(self) -> None:
        """Mark that there are only pickled weights: an empty file, which inspection reports."""
        with self.open(PICKLE_FILE):
            pass

    def open_beside(self, name: str) -> "BesideFile":
        """One of the training files, which inspection compares and the store does not keep."""
        folder = self._into / TRAINING_FOLDER
        folder.mkdir(exist_ok=True)
        return BesideFile(folder / name, self._limits.max_training_file_bytes, self._unread)

    def keep_beside(self, prefix: str) -> None:
        """Keep the training files whose names have the prefix, without it."""
        folder = self._into / TRAINING_FOLDER
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.name.startswith(prefix):
                file.rename(folder / file.name.removeprefix(prefix))
            else:
                file.unlink()

    def count(self, size_bytes: int) -> None:
        """Raises SourceTooLarge, TenantLimit, and Stopped."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise self._limits.excess()
        self._progress.advance(size_bytes)

    def adopt(self, path: Path) -> None:
        """Hash a file that is in the folder already. Raises what `count` raises."""
        hasher = blake3()
        size_bytes = path.stat().st_size
        self.expect(size_bytes)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                self.count(len(chunk))
                hasher.update(chunk)
        self.add(FetchedFile(path.name, size_bytes, hasher.hexdigest()))

    def add(self, file: FetchedFile) -> None:
        self._files.append(file)

    def check_config(self) -> None:
        """Look at the configuration before the weights come. Raises InvalidAdapter."""
        if self._limits.check_config is not None:
            self._limits.check_config(self._into)

    def leave_beside(self, name: str) -> None:
        """Remark that there is a training file that is too large or can't be had."""
        self._unread.append(name)

    def finish(self, revision: str | None = None) -> FetchedSource:
        """All files that were written completely."""
        names = (
            name.rpartition("-")[2] for name in self._unread
        )  # in an archive they are numbered
        return FetchedSource(tuple(self._files), revision, unread_remarks(names))


class IncomingFile:
    """An incoming file: hashed and written in one pass, durable once closed."""

    def __init__(self, writer: QuarantineWriter, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._file = path.open("xb")
        self._hasher = blake3()
        self._size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def write(self, chunk: bytes) -> None:
        """Raises SourceTooLarge, TenantLimit, and Stopped."""
        self._writer.count(len(chunk))
        self._size_bytes += len(chunk)
        self._hasher.update(chunk)
        self._file.write(chunk)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file as file:
            if error is None:
                make_final(file.fileno())
        if error is None:
            name, hashed = self._path.name, self._hasher.hexdigest()
            self._writer.add(FetchedFile(name, self._size_bytes, hashed))


class BesideFile:
    """A training file: neither hashed nor counted, and dropped if it is too large or broken off.

    That there are embeddings of new tokens decides, whatever of them can be had: a part is kept.
    """

    def __init__(self, path: Path, max_bytes: int, unread: list[str]) -> None:
        self._path = path
        self._file = path.open("wb")
        self._left_bytes = max_bytes
        self._unread = unread

    def __enter__(self) -> Self:
        return self

    @property
    def has_room(self) -> bool:
        """Whether more of it may be kept."""
        return self._left_bytes >= 0

    def write(self, chunk: bytes) -> None:
        self._left_bytes -= len(chunk)
        if self._left_bytes >= 0:
            self._file.write(chunk)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._path.name.endswith(NEW_EMBEDDINGS):
            return
        if error is not None or not self.has_room:
            self._path.unlink()
        if error is None and not self.has_room:
            self._unread.append(self._path.name)


def make_final(descriptor: int) -> None:
    """Make a complete file durable and read-only."""
    os.fsync(descriptor)
    os.fchmod(descriptor, 0o444)


def too_large(limits: FetchLimits) -> SourceTooLarge:
    return SourceTooLarge(f"the adapter is larger than {limits.max_bytes} bytes")
