"""The store of verified files: content-addressed, written whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
from blake3 import blake3

from registry.defects import Defect
from registry.errors import (
    InvalidAdapter,
    SourceNotAllowed,
    SourceNotFound,
    SourceTooLarge,
    StoreUnavailable,
)
from registry.inspect import PICKLE_FILE, WEIGHTS_FILE, Inspection, Verdict
from registry.peft_config import CONFIG_FILE
from registry.seals import manifest_digest, seal

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
            for leftover in self._quarantine.iterdir():
                if not _owner_lives(leftover.name):
                    _remove(leftover)
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
            digest = manifest_digest(self._copy_all(self._files(folder), copy))
            inspection = check(copy)
            self._keep(copy, digest)
            seal(self.path_of(digest))
        except OSError as error:
            raise StoreUnavailable(f"the adapter can't be stored: {error.strerror}") from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return StoredArtifact(digest, self.path_of(digest), inspection.size_bytes, inspection)

    def workspace(self) -> Path:
        """An empty folder on the store's disk; a start clears what a crash leaves of it.

        Raises StoreUnavailable.
        """
        folder = self._quarantine / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            folder.mkdir()
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from error
        return folder

    def adopt(self, folder: Path, digest: str) -> bool:
        """Move verified files under their digest; False if they were there already.

        Raises StoreUnavailable.
        """
        kept = self.path_of(digest)
        if kept.is_dir():
            return False
        try:
            for file in folder.iterdir():
                _sync(file)
                file.chmod(0o444)
            os.utime(folder)  # orphans are known by their age
            self._keep(folder, digest)
            seal(kept)
        except OSError as error:
            raise StoreUnavailable(f"the adapter can't be stored: {error.strerror}") from error
        return True

    def try_out(self, source: str, check: Callable[[Path], Verdict]) -> Verdict:
        """Let `check` judge a copy as `ingest` does, and keep nothing.

        Raises what `ingest` raises; an unsafe or unreadable file is a verdict of its own.
        """
        copy = self._quarantine / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            copy.mkdir()
            self._copy_all(self._files(self._source_folder(source)), copy)
            return check(copy)
        except InvalidAdapter as problem:
            return Verdict.refused(problem)
        except OSError as error:
            raise StoreUnavailable(f"the adapter can't be stored: {error.strerror}") from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _source_folder(self, source: str) -> Path:
        try:
            candidates = [Path(os.path.realpath(root / source)) for root in self._source_roots]
        except ValueError:  # a NUL, or half a character
            raise SourceNotFound("the source is no path") from None
        allowed = [
            path for path in candidates if any(path.is_relative_to(r) for r in self._source_roots)
        ]
        if not allowed:
            raise SourceNotAllowed(f"{source!r} lies in none of the folders to register from")
        for path in allowed:
            if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
                return path
        raise SourceNotFound(f"{source!r} is not a folder")

    def _files(self, folder: Path) -> list[Path]:
        """What belongs to the adapter; other files stay where they are."""
        files = [folder / CONFIG_FILE, folder / WEIGHTS_FILE]
        found = {file: status for file in files if (status := _status(file)) is not None}
        pickle = folder / PICKLE_FILE
        if files[1] not in found and (status := _status(pickle)) is not None:
            found[pickle] = status  # only for inspection to name what is wrong
        for file, status in found.items():
            _check_regular(file, status)
        if sum(status.st_size for status in found.values()) > self._max_bytes:
            raise SourceTooLarge(f"the adapter is larger than {self._max_bytes} bytes")
        return list(found)

    def _copy_all(self, files: Iterable[Path], into: Path) -> list[tuple[str, int, str]]:
        copied: list[tuple[str, int, str]] = []
        left_bytes = self._max_bytes
        for file in files:
            copied.append(self._copy(file, into, left_bytes))
            left_bytes -= copied[-1][1]
        return copied

    def _copy(self, file: Path, into: Path, left_bytes: int) -> tuple[str, int, str]:
        """Copy and hash in one pass: (name, bytes, hash)."""
        hasher = blake3()
        size_bytes = 0
        with _open_source(file) as source, (into / file.name).open("xb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > left_bytes:  # it grew since we asked for its size
                    raise SourceTooLarge(f"the adapter is larger than {self._max_bytes} bytes")
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
        _sync(self._adapters)
        _sync(copy)
        try:
            copy.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another registration of the same content was faster
                raise
        _sync(kept.parent)


def _status(file: Path) -> os.stat_result | None:
    """Of the file itself, were it a link; None if there is none."""
    try:
        return file.lstat()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise _unreadable(file) from None


def _open_source(file: Path) -> BinaryIO:
    """What was a file a moment ago must not have become a link, or a pipe that would block us."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SourceNotFound(f"{file.name} vanished while the adapter was read") from None
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unsafe(file) from None
        raise
    try:
        _check_regular(file, os.fstat(descriptor))
    except InvalidAdapter:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(file)


def _unsafe(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNSAFE_FILE, f"{file.name} is not a regular file")


def _unreadable(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNREADABLE_FILE, f"this server may not read {file.name}")


def _owner_lives(folder_name: str) -> bool:
    pid = folder_name.partition("-")[0]
    if not pid.isdecimal() or len(pid) > 9 or int(pid) == os.getpid():
        return False
    return psutil.pid_exists(int(pid))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
