"""Content-addressed store of verified files; each version's are written whole or not at all."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.errors import StoreUnavailable
from registry.inspection.inspector import Inspection
from registry.inspection.training_files import MAX_FILE_BYTES
from registry.sources.base import FetchLimits
from registry.sources.local import LocalSource, find_folder
from registry.sources.quarantine import make_final
from registry.storage.file_locks import SUFFIX, FileLock, FileLocks
from registry.storage.integrity import is_whole, write_fingerprint
from registry.storage.removal import Removals
from registry.storage.spare_files import SpareFiles
from registry.storage.workspace import Workspace, remove_all


@dataclass(slots=True)
class StoredArtifact:
    """An adapter's files in the store, and the inspection's result.

    `is_used` becomes False if a version with the same content has other files.
    """

    digest: str
    path: Path
    size_bytes: int
    inspection: Inspection
    is_used: bool = True


class ArtifactStore:
    """`adapters/ab/abcd…/` holds verified files, `quarantine/` unverified ones.

    `arriving/` has a lock for each digest whose row is not written yet, or whose files are being
    removed; after a crash, cleanup checks those. `spare/` has files for locks.
    """

    def __init__(
        self,
        root: Path,
        *,
        source_roots: Sequence[Path],
        max_bytes: int,
        max_files: int = 1000,
        max_training_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._root = root
        self._adapters = root / "adapters"
        self._quarantine = root / "quarantine"
        self._spares = SpareFiles(root / "spare")
        self._workspaces = FileLocks(self._quarantine, self._spares)
        self._pending = FileLocks(root / "arriving", self._spares)
        self.removals = Removals(root, self._pending, self.path_of, self._delete)
        self._durable: set[Path] = set()  # folders of the 256 beginnings of digests
        self._source_roots = tuple(Path(os.path.realpath(r)) for r in source_roots)
        self.limits = FetchLimits(
            max_bytes, max_files, max_training_file_bytes=max_training_file_bytes
        )

    def open(self) -> None:
        """Create the folders. Raises StoreUnavailable."""
        with storage_errors("the store can't be opened"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)  # weights may be secret
            self._adapters.mkdir(parents=True, exist_ok=True)
            self._spares.open()
            self._workspaces.open()
            self._pending.open()
            self.removals.open()

    @property
    def adapters(self) -> Path:
        """The folder of all verified files."""
        return self._adapters

    def path_of(self, digest: str) -> Path:
        return self._adapters / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether it has files of this digest."""
        return self.path_of(digest).is_dir()

    async def local(self, source: str, *, within: str | None = None) -> LocalSource:
        """A folder under the configured roots, or under the tenant's folder in them (`within`).

        Raises SourceNotAllowed, SourceNotFound, SourceTimeout.
        """
        roots = self._source_roots
        own = roots if within is None else tuple(root / within for root in roots)
        return await find_folder(own, source, within)

    # ---- quarantine ----------------------------------------------------------------------

    def workspace(self, name: str, *, for_upload: bool = False) -> Workspace | None:
        """The workspace of this name, created if needed; None if it is locked.

        `for_upload`: with its folder. Raises OSError.
        """
        lock = self._workspaces.try_lock(name)
        if lock is None:
            return None
        workspace = Workspace(self._quarantine / name, lock)
        if for_upload:
            try:
                workspace.received.mkdir()
            except OSError:
                workspace.close()
                raise
        return workspace

    def workspaces(self) -> set[str]:
        """Names of all workspaces, in use or left behind, and of anything else in the folder."""
        return {path.name.removesuffix(SUFFIX) for path in self._quarantine.iterdir()}

    # ---- adding and removing -------------------------------------------------------------

    def add(self, folder: Path, digest: str, *, is_sealed: bool = True) -> FileLock:
        """Move inspected files to their digest's folder; the same content is stored once.

        What is there is checked, and replaced if it is damaged. They are not removed while the
        lock is held, until their row is written. `is_sealed` False: the caller writes their
        fingerprint, once nothing of them changes any more. Raises OSError.
        """
        target = self.path_of(digest)
        lock = self._pending.lock_shared(digest)
        try:
            if target.is_dir() and not is_whole(target, digest):
                self._discard(digest)
            self._move(folder, target)
            if is_sealed:
                write_fingerprint(target)
        except BaseException:
            (lock.abandon if target.is_dir() else lock.release)()
            raise
        return lock

    def adopt(self, folder: Path, digest: str) -> bool:
        """The same without a lock, for an import, which prevents the removal of any.

        False if the files were there already. Raises StoreUnavailable.
        """
        target = self.path_of(digest)
        if target.is_dir():
            return False
        with storage_errors():
            for file in folder.iterdir():
                _make_final(file)
            os.utime(folder)  # orphans are detected by age
            self._move(folder, target)
            write_fingerprint(target)
        return True

    def pending_digests(self) -> set[str]:
        """Digests whose row is being written, or whose files may be without one after a crash."""
        return self._pending.names()

    def _discard(self, digest: str) -> None:
        if (name := self.removals.discard(digest)) is not None:
            remove_all(self._quarantine / name)

    def _delete(self, name: str) -> None:
        if (workspace := self.workspace(name)) is not None:
            workspace.close()

    def _move(self, folder: Path, target: Path) -> None:
        if target.is_dir():
            return
        self._make_durable(target.parent)
        _sync_folder(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # else a concurrent registration stored the same content
                raise
        _sync_folder(target.parent)

    def _make_durable(self, parent: Path) -> None:
        """Another process may have made it a moment ago: that it is there does not say so."""
        if parent in self._durable and parent.is_dir():
            return
        parent.mkdir(exist_ok=True)
        _sync_folder(self._adapters)
        self._durable.add(parent)


@contextmanager
def storage_errors(what: str = "the adapter can't be stored") -> Iterator[None]:
    """Raise StoreUnavailable for an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{what}: {error.strerror or error}") from error


def _make_final(file: Path) -> None:
    with file.open("rb") as opened:
        make_final(opened.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
