"""Artifact files: what a load reads, from the registry's store or from copies on a local disk."""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Set
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from engine.errors import AdapterFilesMissing, AdapterLoadFailed, AdapterStoreAway, LoadsStalled
from engine.load_threads import LoadThreads, ThreadsStalled
from engine.settings import EngineSettings
from engine.types import AdapterVersion, LoadFailure
from registry.storage.availability import FilesGone, StoreAway
from registry.storage.integrity import FilesChanged, hash_file, manifest_digest, verify
from registry.storage.local_copy import LocalCopyCache

logger = logging.getLogger(__name__)


class StoredFiles:
    """Implements the `Files` port over the content-addressed store."""

    def __init__(self) -> None:
        self._threads = LoadThreads("adaptry-verify")

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """Raises AdapterLoadFailed."""
        try:
            path = Path(version.path)
            await self._threads.run(version.digest, verify, path, version.digest)
        except ThreadsStalled as error:
            raise LoadsStalled(version.reference, str(error)) from error
        except (FilesChanged, OSError) as error:
            raise _load_error(version, error) from error
        return version


class LocalCopies:
    """Implements the `Files` port with copies on a local disk, for a store that is far away.

    Each file is hashed while it is copied. Every engine has its own folder below `root` and finds
    it again after a restart.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Raises OSError if `root` can't be written to."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)  # weights may be secret
        self._folder, self._lock = _lock_folder(root)
        self._files = LocalCopyCache(self._folder, limit_bytes)
        self._threads = LoadThreads("adaptry-copy")
        logger.info("files that are loaded are copied to %s", self._folder)

    def protect(self, in_use: Callable[[], Set[str]]) -> None:
        """Never remove these digests. `in_use` is called from other threads."""
        self._files.in_use = in_use

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """The version with the path of its copy. Raises AdapterLoadFailed."""
        fetch = partial(_copy, Path(version.path), version.digest)
        try:
            digest = version.digest
            folder = await self._threads.run(digest, self._files.folder_of, digest, fetch)
        except ThreadsStalled as error:
            raise LoadsStalled(version.reference, str(error)) from error
        except (FilesChanged, OSError) as error:
            raise _load_error(version, error) from error
        return replace(version, path=str(folder))


def create_local_copies(settings: EngineSettings) -> LocalCopies | None:
    """None unless the settings ask for them. Raises OSError."""
    if settings.local_copies is None:
        return None
    return LocalCopies(settings.local_copies, settings.local_copies_bytes)


def load_error(reference: str, reason: str, failure: LoadFailure) -> AdapterLoadFailed:
    """The error of a failed load, with the code of its cause."""
    match failure:
        case LoadFailure.MISSING:
            return AdapterFilesMissing(reference, reason)
        case LoadFailure.STORE:
            return AdapterStoreAway(reference, reason)
        case LoadFailure.STALLED:
            return LoadsStalled(reference, reason)
    return AdapterLoadFailed(reference, reason, failure)


def _load_error(version: AdapterVersion, error: FilesChanged | OSError) -> AdapterLoadFailed:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    match error:
        case FilesChanged():
            failure = LoadFailure.FILES
        case FilesGone():
            failure = LoadFailure.MISSING
        case StoreAway():
            failure = LoadFailure.STORE
        case _:
            failure = LoadFailure.IO
    return load_error(version.reference, reason, failure)


def _lock_folder(root: Path) -> tuple[Path, int]:
    """The first folder that no running engine has locked, and the open lock that reserves it."""
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
    """Raises what `verify` raises about the store's files, and OSError for the local disk."""
    incomplete = folder.with_name(f".{folder.name}")
    shutil.rmtree(incomplete, ignore_errors=True)
    try:
        shutil.copytree(source, incomplete)
        found = manifest_digest(map(hash_file, incomplete.iterdir()))
        if found != digest:
            raise OSError(errno.EIO, f"the digest of the copy is {found[:16]}…")
        incomplete.rename(folder)
    except OSError as error:
        verify(source, digest, trust_fingerprint=False)  # raises if the copy is not to blame
        if isinstance(error, shutil.Error):  # lists one for each file; the first is enough
            raise OSError(str(error.args[0][0][2])) from error
        raise
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
