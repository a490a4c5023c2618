"""Named locks of one file: any number of names, held for a process, with one open descriptor.

Each name has a byte of the file, which need not exist. Other than with `file_locks`, a process is
one holder of a name, whichever of its threads asks: threads have to agree among themselves. The
kernel releases the locks when the process dies.
"""

import fcntl
import os
import struct
import threading
from pathlib import Path

from blake3 import blake3

# Locks of the open file, not of the process: another open of the file releases none of them.
_TRY, _WAIT = fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW
_HELD_ELSEWHERE = (BlockingIOError, PermissionError)  # EAGAIN or EACCES, as the file system likes


class NamedLocks:
    """Raises OSError where the file can't be opened or its file system has no locks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def share(self, name: str) -> None:
        """Hold it together with other processes. Waits for one that has taken it."""
        self._set(_WAIT, fcntl.F_RDLCK, name)

    def take(self, name: str) -> None:
        """Hold it alone. Waits for others."""
        self._set(_WAIT, fcntl.F_WRLCK, name)

    def try_take(self, name: str) -> bool:
        """Hold it alone; false if another process holds it."""
        try:
            self._set(_TRY, fcntl.F_WRLCK, name)
        except _HELD_ELSEWHERE:
            return False
        return True

    def release(self, name: str) -> None:
        self._set(_TRY, fcntl.F_UNLCK, name)

    def _set(self, how: int, kind: int, name: str) -> None:
        place = int.from_bytes(blake3(name.encode()).digest(7))
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, place, 1, 0)  # struct flock
        fcntl.fcntl(self._open(), how, lock)

    def _open(self) -> int:
        with self._opening:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            return self._descriptor
