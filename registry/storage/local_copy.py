"""Local copies of versions' files, each fetched once and verified against its digest."""

import contextlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from registry.storage.integrity import fingerprint, hash_file, manifest_digest
from registry.storage.named_locks import NamedLocks

_HANDOVER_SECONDS = 60.0  # vLLM reads a folder immediately after it is handed out
_LOCKS = ".locks"

Fetch = Callable[[Path], None]
"""Creates the folder, complete or not at all. Meanwhile it may have others that begin with a dot
and the folder's name."""


class LocalCopyCache:
    """One folder per digest. Beyond `limit_bytes` the least recently used ones are deleted, except
    those `in_use`, which an engine may read again, and those that were just handed out and are not
    reported as in use yet; in this process and in others that share the folder."""

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
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._locks = NamedLocks(root / _LOCKS)
        self._held: set[str] = set()  # shared with other processes: none of them deletes these
        self._holding = threading.Lock()

    def folder_of(self, digest: str, fetch: Fetch) -> Path:
        """The verified folder; fetched if needed. Blocks. Raises what `fetch` raises, OSError."""
        folder = self._root / digest
        with self._turns[digest]:
            self._hold(digest)
            self._verify(folder, fetch)
            os.utime(folder)
            self._handed_out[digest] = self._clock()
        self._trim()
        return folder

    def let_go(self) -> None:
        """Tell other processes what this one no longer needs."""
        with self._holding:
            for digest in self._held - self._find_protected():
                self._held.remove(digest)
                self._locks.release(digest)

    def _hold(self, digest: str) -> None:
        """Waits for a process that is just deleting it."""
        with self._holding:
            if digest not in self._held:
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._locks.share(digest)
                self._held.add(digest)

    def _verify(self, folder: Path, fetch: Fetch) -> None:
        digest = folder.name
        if folder.is_dir() and self._fingerprints.get(digest) == fingerprint(folder):
            return
        with self._fetch_turn(digest):
            if not (folder.is_dir() and _digest_of(folder) == digest):
                shutil.rmtree(folder, ignore_errors=True)
                fetch(folder)
            self._fingerprints[digest] = fingerprint(folder)

    @contextmanager
    def _fetch_turn(self, digest: str) -> Iterator[None]:
        """One process at a time: the next one finds what this one has fetched."""
        self._locks.take(f"{digest}.fetch")
        try:
            yield
        finally:
            self._locks.release(f"{digest}.fetch")

    def _trim(self) -> None:
        self.let_go()
        self._remove_leftovers()
        needed = self._find_protected()
        by_age = sorted((f for f in self._root.iterdir() if _is_copy(f)), key=_last_use)
        sizes = {folder: _size_bytes(folder) for folder in by_age}
        total = sum(sizes.values())
        for folder in by_age:
            if total <= self._limit_bytes:
                return
            if folder.name not in needed and self._remove(folder):
                total -= sizes[folder]

    def _remove(self, folder: Path) -> bool:
        """False if it is used, here or in another process."""
        digest = folder.name
        with self._turn_now(digest) as is_ours:
            if not is_ours or digest in self._held or not self._locks.try_take(digest):
                return False
            try:
                self._fingerprints.pop(digest, None)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                self._locks.release(digest)
            return True

    def _remove_leftovers(self) -> None:
        """What processes were fetching when they were killed."""
        for folder in self._root.glob(".*"):
            digest = folder.name.split(".")[1]
            with self._turn_now(digest) as is_ours:
                if is_ours and folder.is_dir() and self._locks.try_take(f"{digest}.fetch"):
                    shutil.rmtree(folder, ignore_errors=True)
                    self._locks.release(f"{digest}.fetch")

    @contextmanager
    def _turn_now(self, digest: str) -> Iterator[bool]:
        """False if another thread has it: the locks do not keep threads of one process apart."""
        turn = self._turns[digest]
        is_ours = turn.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                turn.release()

    def _find_protected(self) -> Set[str]:
        in_use = self.in_use()
        now = self._clock()
        for digest, given in list(self._handed_out.items()):  # other threads add to it
            if digest in in_use or now - given > _HANDOVER_SECONDS:
                self._handed_out.pop(digest, None)
        taken = (digest for digest, turn in list(self._turns.items()) if turn.locked())
        return {*in_use, *self._handed_out, *taken}


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
