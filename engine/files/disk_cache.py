"""Copies of the store's files on a disk of this machine, made when they are loaded."""

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Set
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from engine.errors import LoadFailure
from engine.files.store_files import failed_load
from engine.settings import EngineSettings
from engine.types import AdapterVersion
from registry.storage.integrity import FilesChanged, hashed, manifest_digest
from registry.storage.local_copy import LocalFiles

logger = logging.getLogger(__name__)


class LocalCopies:
    """Implements the `Files` port. Each file is hashed as it comes, and read from here then.

    Every engine has a folder of its own below `root`, which it finds again when it starts anew.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Raises OSError if `root` can't be written to."""
        root.mkdir(parents=True, exist_ok=True)
        self._folder, self._lock = _own_folder(root)
        self._files = LocalFiles(self._folder, limit_bytes)
        logger.info("files that are loaded are copied to %s", self._folder)

    def keep(self, in_use: Callable[[], Set[str]]) -> None:
        """Never remove these digests. Called from other threads."""
        self._files.in_use = in_use

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """The version with the path of its copy. Raises AdapterLoadFailed."""
        fetch = partial(_copy, Path(version.path), version.digest)
        try:
            folder = await asyncio.to_thread(self._files.folder_of, version.digest, fetch)
        except (FilesChanged, FileNotFoundError, NotADirectoryError) as error:
            raise failed_load(version, error, LoadFailure.FILES) from error
        except OSError as error:
            raise failed_load(version, error, LoadFailure.IO) from error
        return replace(version, path=str(folder))


def local_copies(settings: EngineSettings) -> LocalCopies | None:
    """Where the settings ask for them. Raises OSError."""
    if settings.local_copies is None:
        return None
    return LocalCopies(settings.local_copies, settings.local_copies_bytes)


def _own_folder(root: Path) -> tuple[Path, int]:
    """The first that no living engine has; it has it for as long as the lock is open."""
    for number in count():
        lock = os.open(root / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return root / str(number), lock
    raise AssertionError("there is always one more")


def _copy(source: Path, digest: str, folder: Path) -> None:
    """Raises FilesChanged if that is not what was registered, and OSError."""
    partly = folder.with_name(f".{folder.name}")
    shutil.rmtree(partly, ignore_errors=True)
    try:
        shutil.copytree(source, partly)
        found = manifest_digest(map(hashed, partly.iterdir()))
        if found != digest:
            raise FilesChanged(f"their digest is {found[:16]}…, not {digest[:16]}…")
        partly.rename(folder)
    except shutil.Error as error:  # several, of which the first says enough
        raise OSError(str(error.args[0][0][2])) from error
    finally:
        shutil.rmtree(partly, ignore_errors=True)
