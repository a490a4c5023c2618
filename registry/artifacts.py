"""The store of verified files: content-addressed, written whole or not at all."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from blake3 import blake3

from registry.errors import (
    InvalidAdapter,
    SourceNotAllowed,
    SourceNotFound,
    SourceTooLarge,
    StoreUnavailable,
)
from registry.inspect import PICKLE_FILE, WEIGHTS_FILE, Inspection
from registry.peft_config import CONFIG_FILE

_TAKEN = (CONFIG_FILE, WEIGHTS_FILE, PICKLE_FILE)
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An adapter's files in the store, and what inspection found."""

    digest: str
    path: Path
    size_bytes: int
    inspection: Inspection


class ArtifactStore:
    """`adapters/ab/abcd…/` holds files that were verified; `quarantine/` those on their way."""

    def __init__(self, root: Path, *, source_roots: Sequence[Path], max_bytes: int) -> None:
        self._adapters = root / "adapters"
        self._quarantine = root / "quarantine"
        self._source_roots = tuple(Path(os.path.realpath(r)) for r in source_roots)
        self._max_bytes = max_bytes

    def open(self) -> None:
        """Make the folders and clear what dead processes left. Raises StoreUnavailable."""
        try:
            self._adapters.mkdir(parents=True, exist_ok=True)
            self._quarantine.mkdir(parents=True, exist_ok=True)
            for folder in self._quarantine.iterdir():
                if not _owner_lives(folder.name):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise StoreUnavailable(f"{self._quarantine}: {error.strerror}") from error

    def path_of(self, digest: str) -> Path:
        return self._adapters / digest[:2] / digest

    def ingest(self, source: str, check: Callable[[Path], Inspection]) -> StoredArtifact:
        """Copy the adapter's files in, let `check` judge the copy, and keep it under its digest.

        Whatever fails leaves nothing behind. The same content is kept once.
        Raises SourceNotAllowed, SourceNotFound, SourceTooLarge, InvalidAdapter, StoreUnavailable.
        """
        folder = self._source_folder(source)
        copy = self._quarantine / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            copy.mkdir()
            digest = _digest([self._copy(file, copy) for file in self._files(folder)])
            inspection = check(copy)
            self._keep(copy, digest)
        except OSError as error:
            raise StoreUnavailable(f"the adapter can't be stored: {error.strerror}") from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return StoredArtifact(digest, self.path_of(digest), inspection.size_bytes, inspection)

    def _source_folder(self, source: str) -> Path:
        if "\0" in source:
            raise SourceNotFound("the source is no path")
        candidates = [Path(os.path.realpath(root / source)) for root in self._source_roots]
        allowed = [
            path for path in candidates if any(path.is_relative_to(r) for r in self._source_roots)
        ]
        if not allowed:
            raise SourceNotAllowed(f"{source!r} lies in none of the folders to register from")
        for path in allowed:
            if path.is_dir():
                return path
        raise SourceNotFound(f"{source!r} is not a folder")

    def _files(self, folder: Path) -> list[Path]:
        """What belongs to the adapter; other files stay where they are."""
        files = [folder / name for name in _TAKEN if os.path.lexists(folder / name)]
        for file in files:
            if not stat.S_ISREG(file.lstat().st_mode):
                raise InvalidAdapter("unsafe_file", f"{file.name} is not a regular file")
        if sum(file.lstat().st_size for file in files) > self._max_bytes:
            raise SourceTooLarge(f"the adapter is larger than {self._max_bytes} bytes")
        return files

    def _copy(self, file: Path, into: Path) -> tuple[str, int, str]:
        """Copy and hash in one pass: (name, bytes, hash)."""
        hasher = blake3()
        size_bytes = 0
        # NOFOLLOW: what was a file a moment ago must not have become a link
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as source, (into / file.name).open("xb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > self._max_bytes:
                    raise SourceTooLarge(f"{file.name} is larger than {self._max_bytes} bytes")
                hasher.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
            os.fchmod(target.fileno(), 0o444)
        return file.name, size_bytes, hasher.hexdigest()

    def _keep(self, copy: Path, digest: str) -> None:
        kept = self.path_of(digest)
        if kept.is_dir():
            return
        kept.parent.mkdir(exist_ok=True)
        _sync_folder(copy)
        try:
            copy.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another registration of the same content was faster
                raise
        _sync_folder(kept.parent)


def _digest(files: Iterable[tuple[str, int, str]]) -> str:
    """blake3 over a manifest line for each file, in the order of their names."""
    lines = [f"{name} {size_bytes} {hashed}\n" for name, size_bytes, hashed in sorted(files)]
    return blake3("".join(lines).encode()).hexdigest()


def _owner_lives(folder_name: str) -> bool:
    pid = folder_name.partition("-")[0]
    return pid.isdigit() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
