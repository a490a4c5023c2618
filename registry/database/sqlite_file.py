"""SQLite file: private to its owner, and watched: a deleted or replaced one is no database.

SQLite goes on writing to a file that was deleted, and all of it is lost at the next start.
"""

import contextlib
import os
from pathlib import Path

from sqlalchemy import URL

from registry.errors import DatabaseUnavailable

Identity = tuple[int, int]


class SqliteFile:
    """The file behind one database in this process, and its write-ahead log. In memory: neither."""

    def __init__(self, url: URL) -> None:
        self._path = path_of(url)
        self._identity: Identity | None = None
        self._log = _OpenLog()

    def on_open(self, log: Path | None) -> None:
        """A connection was made: from the first one on it is this file. `log`: if it has one."""
        if self._path is not None and self._identity is None:
            self._identity = _identity(self._path)
        self._log.on_open(log)

    def on_close(self) -> None:
        """A connection is about to be closed."""
        self._log.on_close()

    def check(self) -> None:
        """Raises DatabaseUnavailable if a path does not lead to that file or its log any more."""
        if self._path is None or self._identity is None:
            return
        if (found := _identity(self._path)) != self._identity:
            what = "deleted" if found is None else "replaced by another one"
            raise DatabaseUnavailable(
                f"the database's file was {what} while the server runs: put it back, or restart"
            )
        if self._log.is_gone():
            raise DatabaseUnavailable(
                "the database's log (-wal) was deleted or replaced while the server runs, with "
                "changes that were not in the file yet: restart, and compare with a backup"
            )


class _OpenLog:
    """The log of the connections that are open. SQLite itself deletes it with the last one."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._identity: Identity | None = None
        self._connections = 0
        self._openings = 0  # of the first of several

    def on_open(self, path: Path | None) -> None:
        if not self._connections:
            self._openings += 1
            self._identity = None
        self._connections += 1
        self._path = path

    def on_close(self) -> None:
        self._connections -= 1

    def is_gone(self) -> bool:
        """Called in threads. What was read while the last connection closed says nothing."""
        path, openings = self._path, self._openings
        if path is None or not self._connections:
            return False
        found = _identity(path)
        if not self._connections or openings != self._openings:
            return False
        if self._identity is None:
            self._identity = found
        return found != self._identity


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
