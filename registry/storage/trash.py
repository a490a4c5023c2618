"""Trash: files set aside by a purge until its transaction is decided, then deleted.

A purge sets the files aside within its transaction, so that a registration of the same content
sees them gone as soon as it may, and deletes them after it. A crash between the two leaves them
here, and the next start puts them back or deletes them, as the database says.
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
    """`trash/` beside the `adapters/` folder that `path_of` (digest → folder) points into.

    `try_lock` claims files against those who are about to write a row for them.
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

        What such a registration leaves behind when it fails is swept. Does not block. Raises
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
        shutil.rmtree(aside, ignore_errors=True)  # of a purge that died before its end
        try:
            stored.rename(aside)
        except FileNotFoundError:
            return False
        return True

    def put_back(self, digest: str) -> None:
        """Undo `set_aside`; nothing to do where the files were registered again meanwhile.

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
        """What can't be deleted now is tried again at the next start."""
        shutil.rmtree(self._trash / digest, ignore_errors=True)
        if not self._path_of(digest).exists():
            with contextlib.suppress(OSError):
                fingerprint_file(self._path_of(digest)).unlink()

    def digests(self) -> list[str]:
        """What lies here."""
        return sorted(path.name for path in self._trash.glob("*")) if self._trash.is_dir() else []

    def stored_digests(self, *, older_than_seconds: float) -> list[str]:
        """All files in the store that have been there for some time. Raises StoreUnavailable."""
        latest = time.time() - older_than_seconds
        try:
            folders = self._adapters.glob("??/*")
            return sorted(path.name for path in folders if path.stat().st_mtime <= latest)
        except OSError as error:
            raise StoreUnavailable(f"the store can't be read: {error.strerror}") from error
