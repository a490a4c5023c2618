"""Schema of an SQLite file, read without SQLAlchemy and Alembic: to import them takes 0.3 s of CPU.

For `adaptry doctor`, which else would take twice as long. Changes nothing.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from registry.database.schema_state import SchemaState
from registry.database.urls import FILE_URL
from registry.errors import DatabaseUnavailable

_HERE = Path(__file__).resolve().parent
_FOLDERS = (_HERE / "alembic" / "versions", _HERE.parent.parent / "alembic" / "versions")
_REVISION = re.compile(r'^(down_)?revision: .* = (?:"(\w+)"|None)$', re.MULTILINE)


def sqlite_schema(database_url: str) -> SchemaState | None:
    """None: the URL is not simply that of a file. Raises DatabaseUnavailable."""
    found = FILE_URL.fullmatch(database_url)
    revisions = _known_revisions()
    if found is None or found[1] == ":memory:" or not revisions:
        return None
    file = Path(found[1])
    current = _revision_in(file) if file.is_file() else None  # connecting would create it
    return SchemaState.of(current, revisions)


def _known_revisions() -> list[str]:
    """As the migrations' files say, the newest first."""
    after: dict[str | None, str] = {}
    for folder in _FOLDERS:
        for file in folder.glob("*.py"):
            found = {bool(down): name for down, name in _REVISION.findall(file.read_text("utf-8"))}
            after[found.get(True) or None] = found[False]
    revisions: list[str] = []
    while (newer := after.get(revisions[-1] if revisions else None)) is not None:
        revisions.append(newer)
    return revisions[::-1]


def _revision_in(file: Path) -> str | None:
    try:
        with closing(sqlite3.connect(file)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return None
        raise DatabaseUnavailable(f"the database can't be used now: {error}") from error
    return None if row is None else str(row[0])
