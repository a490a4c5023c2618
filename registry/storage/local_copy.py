"""Local copies of versions' files, each fetched once and verified against its digest."""

import contextlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Set
from pathlib import Path

from registry.storage.integrity import fingerprint, hash_file, manifest_digest

_HANDOVER_SECONDS = 60.0  # vLLM reads a folder immediately after it is handed out

Fetch = Callable[[Path], None]
"""Creates the folder, complete or not at all."""


class LocalCopyCache:
    """One folder per digest. Beyond `limit_bytes` the least recently used ones are deleted, except
    those `in_use`, which an engine may read again, and those that were just handed out and are not
    reported as in use yet."""

    def __init__(
        self,
        root: Path,
        limit_bytes: int,
        in_use: Callable[[], Set[str]] = frozenset,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self.in_use = in_use
        self._clock = clock
        self._handed_out: dict[str, float] = {}  # when, until it is in use
        self._fingerprints: dict[str, object] = {}  # of folders that this process has hashed
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def folder_of(self, digest: str, fetch: Fetch) -> Path:
        """The verified folder; fetched if needed. Blocks. Raises what `fetch` raises, OSError."""
        folder = self._root / digest
        with self._locks[digest]:
            if not folder.is_dir() or self._fingerprints.get(digest) != fingerprint(folder):
                if not (folder.is_dir() and _digest_of(folder) == digest):
                    shutil.rmtree(folder, ignore_errors=True)
                    self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                    fetch(folder)
                self._fingerprints[digest] = fingerprint(folder)
            os.utime(folder)
            self._handed_out[digest] = self._clock()
        self._trim()
        return folder

    def _trim(self) -> None:
        needed = self._protected()
        by_age = sorted((f for f in self._root.iterdir() if _is_copy(f)), key=_last_use)
        sizes = {folder: _size_bytes(folder) for folder in by_age}
        total = sum(sizes.values())
        for folder in by_age:
            if total <= self._limit_bytes:
                return
            if folder.name not in needed:
                self._fingerprints.pop(folder.name, None)
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]

    def _protected(self) -> Set[str]:
        in_use = self.in_use()
        now = self._clock()
        for digest, given in list(self._handed_out.items()):  # other threads add to it
            if digest in in_use or now - given > _HANDOVER_SECONDS:
                self._handed_out.pop(digest, None)
        return {*in_use, *self._handed_out}


def _is_copy(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _last_use(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # another process trims too
        return folder.stat().st_mtime
    return 0.0


def _size_bytes(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _digest_of(folder: Path) -> str:
    return manifest_digest(map(hash_file, folder.iterdir()))
