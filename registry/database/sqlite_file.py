"""SQLite file: private to its owner, and watched: a deleted or replaced one is no database.

SQLite goes on writing to a file that was deleted, and all of it is gone at the next start.
"""

import contextlib
import os
from pathlib import Path

from sqlalchemy import URL

from registry.errors import DatabaseUnavailable

Identity = tuple[int, int]


class SqliteFile:
    """The file behind one database in this process. In memory there is none."""

    def __init__(self, url: URL) -> None:
        self._path = path_of(url)
        self._identity: Identity | None = None

    def remember(self) -> None:
        """The first connection was made: it is this file from now on."""
        if self._path is not None and self._identity is None:
            self._identity = _identity(self._path)

    def check(self) -> None:
        """Raises DatabaseUnavailable if the path does not lead to that file any more."""
        if self._path is None or self._identity is None:
            return
        if (found := _identity(self._path)) != self._identity:
            what = "deleted" if found is None else "replaced by another one"
            raise DatabaseUnavailable(
                f"the database's file was {what} while the server runs: put it back, or restart"
            )


def path_of(url: URL) -> Path | None:
    """None for PostgreSQL, and for a database in memory or by a `file:` URI."""
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name[:5] == "file:":
        return None
    return Path(name)


def create(url: URL) -> None:
    """Create a new database's folder and file for the owner alone, as it holds secrets.

    SQLite gives its other files the same permissions. Existing ones keep theirs, and are not even
    opened: to close a file ends all locks that this process has on it, SQLite's too.
    """
    if (path := path_of(url)) is None:
        return
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # it exists; or connecting says what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
