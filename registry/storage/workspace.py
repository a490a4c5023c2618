"""Workspace: the locked folder of one job, import or export in the store's quarantine."""

import secrets
import shutil
import threading
from pathlib import Path

from registry.storage.file_locks import FileLock

_FETCHED = "fetched-"


class Workspace:
    """A locked folder in quarantine; the lock ends with `close` or the process.

    `is_needed`: keep the content for another process or attempt. `has_version`: the files that were
    stored out of it have a row.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.name = folder.name
        self._folder = folder
        self._lock = lock
        self._stored: FileLock | None = None
        self._is_closed = False
        self._closing = threading.Lock()
        self.is_needed = False
        self.has_version = False

    @property
    def received(self) -> Path:
        """Folder of the files that are uploaded, kept until the job ends."""
        return self._folder

    def uploaded(self) -> Path:
        """The same of an upload that was received, perhaps by an earlier release."""
        earlier = self._folder / "upload"
        return earlier if earlier.is_dir() else self._folder

    def empty_folder(self) -> Path:
        """An empty folder for one attempt; deletes what an earlier one left. Raises OSError.

        No two have one name: a read of an earlier attempt that hung may still go on.
        """
        for earlier in self._folder.iterdir() if self._folder.is_dir() else ():
            if earlier.name.startswith(_FETCHED):
                shutil.rmtree(earlier, ignore_errors=True)
        fetched = self._folder / f"{_FETCHED}{secrets.token_hex(8)}"
        fetched.mkdir(parents=True)
        return fetched

    def hold(self, stored: FileLock) -> None:
        """Hold the lock of files that were stored out of it until it is closed, or not at all."""
        with self._closing:
            if not self._is_closed:
                self._stored = stored
                return
        stored.abandon()  # its thread hung, and was given up

    def close(self) -> None:
        """Unlock it, and delete its content unless it is needed."""
        with self._closing:
            self._is_closed = True
        if not self.is_needed:
            remove_all(self._folder)
        if self._stored is not None:
            (self._stored.release if self.has_version else self._stored.abandon)()
        self._lock.release()


def remove_all(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
