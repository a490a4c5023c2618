"""Removal of stored files: reserved first, so that no version begins to need them meanwhile."""

import math
import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from registry.storage.file_locks import FileLock, FileLocks
from registry.storage.integrity import fingerprint_file

_ALL = "all"  # the name of the lock of imports
_DIGEST = re.compile("[0-9a-f]{64}")


class Reservation:
    """Stored files that no registration and no import can begin to need.

    It ends with one of its methods. Each blocks, and raises OSError.
    """

    def __init__(self, removals: "Removals", digest: str, locks: Sequence[FileLock]) -> None:
        self._removals = removals
        self.digest = digest
        self._locks = locks
        self.has_removed = False  # the files are removed, though perhaps not deleted yet

    def remove(self) -> bool:
        """Remove the files: no version may need them. Whether there were any."""
        try:
            discarded = self._removals.discard(self.digest)
        except BaseException:
            self.abandon()
            raise
        self.has_removed = discarded is not None
        self.release()
        if discarded is not None:
            self._removals.delete(discarded)
        return self.has_removed

    def release(self) -> None:
        """A version needs the files, or they are removed."""
        for lock in self._locks:
            lock.release()

    def abandon(self) -> None:
        """Nothing is known: the cleanup looks at them."""
        of_digest, *others = self._locks
        of_digest.abandon()
        for lock in others:
            lock.release()


class Removals:
    """Reservations in one store.

    `arriving`: locks of digests whose row is being written. `delete` deletes a folder in
    quarantine, by its name.
    """

    def __init__(
        self,
        root: Path,
        arriving: FileLocks,
        path_of: Callable[[str], Path],
        delete: Callable[[str], None],
    ) -> None:
        self._root = root
        self._arriving = arriving
        self._importing = FileLocks(root / "importing")
        self._path_of = path_of
        self.delete = delete

    def open(self) -> None:
        """Raises OSError."""
        self._importing.open()
        self._put_back_trash()

    def reserve(self, digest: str) -> Reservation | None:
        """Reserve files; None while a registration or an import may need them.

        Then the cleanup looks at them, unless that writes a row. Raises OSError.
        """
        lock = self._arriving.try_lock(digest)
        if lock is None:
            return None
        try:
            no_import = self._importing.try_lock_shared(_ALL)
        except BaseException:
            lock.abandon()
            raise
        if no_import is None:
            lock.abandon()
            return None
        return Reservation(self, digest, (lock, no_import))

    def prevent(self) -> FileLock:
        """While it is held, no files are removed. Blocks while another process removes some.

        For an import, which would need a lock for each of many digests. Raises OSError.
        """
        return self._importing.lock(_ALL)

    def discard(self, digest: str) -> str | None:
        """Move reserved or damaged files to quarantine; their name there, None without any.

        Raises OSError.
        """
        target, name = self._path_of(digest), secrets.token_hex(16)
        fingerprint_file(target).unlink(missing_ok=True)
        try:
            target.rename(self._root / "quarantine" / name)
        except (FileNotFoundError, NotADirectoryError):  # a file may be in the way
            return None
        return name

    def stored_digests(self, older_than_seconds: float) -> list[str]:
        """Digests of all files in the store older than that. Raises OSError."""
        latest = time.time() - older_than_seconds
        folders = (self._root / "adapters").glob("??/*")
        return sorted(
            path.name
            for path in folders
            if _DIGEST.fullmatch(path.name) and _changed_at(path) <= latest
        )

    def _put_back_trash(self) -> None:
        """What a purge of an earlier release had set aside when its server died.

        The cleanup looks whether a version needs it.
        """
        trash = self._root / "trash"
        for aside in trash.iterdir() if trash.is_dir() else ():
            self._arriving.lock_shared(aside.name).abandon()
            stored = self._path_of(aside.name)
            if stored.exists():
                shutil.rmtree(aside)
            else:
                stored.parent.mkdir(exist_ok=True)
                aside.rename(stored)
        with suppress(FileNotFoundError):
            trash.rmdir()


def _changed_at(path: Path) -> float:
    """Never, of what another server removes meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
