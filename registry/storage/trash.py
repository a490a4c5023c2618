"""Trash: files set aside by a purge until its transaction is decided, then deleted.

A purge sets files aside within its transaction and deletes them after it, so that a registration of
the same content never sees files that are about to be deleted. After a crash in between, the next
start puts them back or deletes them, depending on the database.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from registry.errors import StoreUnavailable
from registry.storage.file_locks import FileLock
from registry.storage.integrity import fingerprint_file
from registry.storage.store import storage_errors


class Trash:
    """`trash/` next to the `adapters/` folder of `path_of` (digest → folder).

    `try_lock` locks files against registrations that are about to write a row for them.
    """

    def __init__(
        self, path_of: Callable[[str], Path], try_lock: Callable[[str], FileLock | None]
    ) -> None:
        self._path_of = path_of
        self._try_lock = try_lock
        self._adapters = path_of("00").parent.parent
        self._trash = self._adapters.parent / "trash"

    def set_aside(self, digest: str) -> bool:
        """False if the store has no such files, or a registration is about to need them.

        If that registration fails, the cleanup removes the files. Does not block. Raises
        StoreUnavailable.
        """
        aside = self._trash / digest
        with storage_errors("the files can't be removed"):
            lock = self._try_lock(digest)
            if lock is None:
                return False
            with lock:
                return self._move(self._path_of(digest), aside)

    def _move(self, stored: Path, aside: Path) -> bool:
        self._trash.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)  # of an interrupted purge
        try:
            stored.rename(aside)
        except FileNotFoundError:
            return False
        return True

    def put_back(self, digest: str) -> None:
        """Undo `set_aside`, unless the files were registered again meanwhile.

        Raises StoreUnavailable.
        """
        stored, aside = self._path_of(digest), self._trash / digest
        try:
            if aside.is_dir() and not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                aside.rename(stored)
        except OSError as error:
            raise StoreUnavailable(f"the files can't be put back: {error.strerror}") from error

    def delete(self, digest: str) -> None:
        """Delete the files; failures are retried at the next start."""
        shutil.rmtree(self._trash / digest, ignore_errors=True)
        if not self._path_of(digest).exists():
            with contextlib.suppress(OSError):
                fingerprint_file(self._path_of(digest)).unlink()

    def digests(self) -> list[str]:
        """Digests of the files in the trash."""
        return sorted(path.name for path in self._trash.glob("*")) if self._trash.is_dir() else []

    def stored_digests(self, *, older_than_seconds: float) -> list[str]:
        """Digests of all files in the store older than that. Raises StoreUnavailable."""
        latest = time.time() - older_than_seconds
        try:
            folders = self._adapters.glob("??/*")
            return sorted(path.name for path in folders if path.stat().st_mtime <= latest)
        except OSError as error:
            raise StoreUnavailable(f"the store can't be read: {error.strerror}") from error
