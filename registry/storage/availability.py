"""Store availability: whether the store answers, which the files of one version can't tell."""

import errno
import os
from pathlib import Path


class StoreAway(OSError):
    """The store does not answer, so nothing is known about any version."""


class StoreEmpty(StoreAway):
    """It answers that it holds nothing at all: nothing is mounted, or nothing was registered."""


class FilesGone(FileNotFoundError):
    """The store answers, and has no files of this version."""


def check_answers(adapters: Path) -> None:
    """Raises StoreAway if the folder of all versions can't be listed, or holds nothing.

    A disk that is not mounted leaves an empty folder. An empty store says nothing about a version
    that was registered.
    """
    try:
        with os.scandir(adapters) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        reason = f"the store can't be listed: {error.strerror or error}"
        raise StoreAway(error.errno or errno.EIO, reason) from error
    if is_empty:
        raise StoreEmpty(errno.ENOENT, "the store is empty")
