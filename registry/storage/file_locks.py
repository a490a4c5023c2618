"""File locks (flock). The kernel releases them when the process dies.

A lock is an flock on a file of its own. Unlike a process id it can't be mistaken for another
process's after a crash, and it works across containers and machines that share the folder.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.storage.spare_files import SpareFiles

SUFFIX = ".lock"
_WAIT_SECONDS = 0.002
_TRIES_OF_SPARE = 3
"""Another one who asks for the lock that the file was may hold it until it sees what it is now."""


class FileLock:
    """A held lock. Release it, or use it as a context manager."""

    def __init__(self, path: Path, descriptor: int, spares: SpareFiles | None = None) -> None:
        self._path = path
        self._descriptor = descriptor
        self._spares = spares

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Unlock; the last holder removes the file."""
        spare: Path | None = None
        try:
            with contextlib.suppress(OSError):  # another holder has it too
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._spares is None:
                    self._path.unlink(missing_ok=True)
                else:
                    spare = self._spares.remove(self._path)
        finally:
            self.abandon()
        if self._spares is not None and spare is not None:
            self._spares.add(spare)  # unlocked: the lock that it becomes would seem to be held

    def abandon(self) -> None:
        """Unlock, but leave the file, so that `names` still lists it."""
        try:
            # unlocks also if a forked child inherited the descriptor
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            os.close(self._descriptor)


class FileLocks:
    """The locks in one folder, by name. `spares`: to be used for the locks' files."""

    def __init__(self, folder: Path, spares: SpareFiles | None = None) -> None:
        self._folder = folder
        self._spares = spares

    def open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def try_lock(self, name: str) -> FileLock | None:
        """Lock exclusively; None if it is held."""
        return self._try(name, fcntl.LOCK_EX)

    def try_lock_shared(self, name: str) -> FileLock | None:
        """Lock together with others; None if there is an exclusive holder."""
        return self._try(name, fcntl.LOCK_SH)

    def lock_shared(self, name: str) -> FileLock:
        """Lock together with others. Waits for an exclusive holder."""
        return self._wait_for(name, fcntl.LOCK_SH)

    def lock(self, name: str) -> FileLock:
        """Lock exclusively. Waits for all holders."""
        return self._wait_for(name, fcntl.LOCK_EX)

    def names(self) -> set[str]:
        """Names of locks that are held, or were left behind by dead processes."""
        return {path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}")}

    def _wait_for(self, name: str, how: int) -> FileLock:
        """Asks again and again: the file that it would wait for may become another lock."""
        while True:
            lock = self._try(name, how)
            if lock is not None:
                return lock
            time.sleep(_WAIT_SECONDS)

    def _try(self, name: str, how: int) -> FileLock | None:
        """None if it is held."""
        path = self._folder / f"{name}{SUFFIX}"
        tries = 1
        while True:
            if self._spares is not None and self._spares.put(path):
                tries = _TRIES_OF_SPARE
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                tries -= 1
                if tries == 0:
                    return None
                time.sleep(_WAIT_SECONDS)
                continue
            except OSError:
                os.close(descriptor)
                raise
            if _is_at(path, descriptor):
                return FileLock(path, descriptor, self._spares)
            os.close(descriptor)  # its last holder removed the file between open and flock, or
            # another lock has become of it


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
