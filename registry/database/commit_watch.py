"""Commit watch: whether anything was committed to a SQLite file, by whichever process.

SQLite counts commits for each connection, and tells the count in 10 µs. A poll that goes through a
session takes a hundred times as long, and two turns of the connection's thread, which a busy event
loop waits for.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

from registry.database.sqlite_file import path_of

Version = int
_UNKNOWN: Version = -1
CommitVersion = Callable[[], Version | None]
"""Equal to an earlier one: nothing was committed in between. None: that can't be told."""


class CommitWatch:
    """Of one database. It never writes, so its own connection sees all commits there are."""

    def __init__(self, url: URL) -> None:
        self._path = path_of(url)
        self._connection: sqlite3.Connection | None = None

    def version(self) -> Version | None:
        """See `CommitVersion`. None for PostgreSQL, in memory, and while the file is busy."""
        if self._path is None:
            return None
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            row = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self.close()
            return None
        version: int = row[0]
        return version

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class SeenCommits:
    """What a poller has seen: it has nothing to do until something was committed after that."""

    def __init__(self, version: CommitVersion) -> None:
        self._version = version
        self._seen: Version = _UNKNOWN

    def unseen(self) -> Version | None:
        """What to `record` once all was read that is there now; None: nothing is new."""
        version = self._version()
        if version is None:
            return _UNKNOWN
        return None if version == self._seen else version

    def record(self, version: Version) -> None:
        self._seen = version


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
