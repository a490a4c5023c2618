"""Database dump of a backup: the rows of one snapshot as a file, and back from it.

SQLite uses its own backup API, PostgreSQL pg_dump and pg_restore, which must be installed.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from registry.database import sqlite_file
from registry.database.outages import translate_outages

SQLITE_FILE = "registry.db"
POSTGRESQL_FILE = "registry.dump"

# Valid for every schema since the first: a backup works with any.
_VERSIONS = (
    "SELECT adapter.name, version.number, version.digest, version.state"
    " FROM version JOIN adapter ON adapter.id = version.adapter_id"
)
# libpq's variables for the URL's options; a password must not be on a command line.
_LIBPQ = {
    "ssl": "PGSSLMODE",
    "host": "PGHOST",
    "port": "PGPORT",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


class BackupFailed(Exception):
    """The backup or restore failed; nothing was changed."""


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version in the backup's rows."""

    reference: str
    digest: str
    state: str


def dump(url: URL, into: Path) -> list[NamedVersion]:
    """Write a snapshot of the rows to a file; the versions in it.

    Raises BackupFailed, DatabaseUnavailable.
    """
    if url.get_backend_name() == "sqlite":
        return _dump_sqlite(_sqlite_file(url), into)
    return asyncio.run(_dump_postgresql(url, into))


def check_empty(url: URL) -> None:
    """Raises BackupFailed if the database is not empty, and DatabaseUnavailable."""
    if url.get_backend_name() == "sqlite":
        file = _sqlite_file(url)
        if file.exists() and file.stat().st_size:
            raise BackupFailed(f"{file} is there already: restore into a new file")
    else:
        asyncio.run(_check_empty_postgresql(url))


def load(url: URL, dumped: Path) -> None:
    """Load a dump into an empty database. Raises BackupFailed."""
    if url.get_backend_name() == "sqlite":
        file = _sqlite_file(url)
        sqlite_file.create(url)
        _copy_sqlite(dumped, file)
    else:
        options = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
        database = f"--dbname={url.database}"
        asyncio.run(_run("pg_restore", url, *options, database, str(dumped)))


def versions_of(dumped: Path) -> list[NamedVersion]:
    """Versions in a SQLite dump."""
    with contextlib.closing(_open_sqlite(dumped)) as connection:
        try:
            return [_to_version(*row) for row in connection.execute(_VERSIONS)]
        except sqlite3.Error as error:
            raise BackupFailed(f"this is no registry: {error}") from error


def _to_version(name: str, number: int, digest: str, state: str) -> NamedVersion:
    return NamedVersion(f"{name}:{number}", digest, state)


# ---- SQLite ----------------------------------------------------------------------------------


def _sqlite_file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise BackupFailed("a database in memory has no backup")
    return Path(url.database)


def _open_sqlite(file: Path, mode: str = "rw") -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode={mode}", uri=True)
    except sqlite3.Error as error:
        if not file.exists():
            advice = "name the server's database with --database or ADAPTRY_DATABASE_URL"
            raise BackupFailed(f"there is no {file}: {advice}") from error
        raise BackupFailed(f"{file} can't be opened: {error}") from error


def _dump_sqlite(file: Path, into: Path) -> list[NamedVersion]:
    _copy_sqlite(file, into)
    return versions_of(into)


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy in one step: a consistent snapshot, while others may write."""
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(_open_sqlite(source)) as reading,
        contextlib.closing(_open_sqlite(target, "rwc")) as writing,
    ):
        try:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        except sqlite3.Error as error:
            raise BackupFailed(f"{source} can't be copied: {error}") from error


# ---- PostgreSQL ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _connection(url: URL) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        with translate_outages():
            async with engine.connect() as connection:
                await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                yield connection
    finally:
        await engine.dispose()


async def _dump_postgresql(url: URL, into: Path) -> list[NamedVersion]:
    """Dump with pg_dump from the same snapshot as the query."""
    async with _connection(url) as connection:
        snapshot = (await connection.execute(text("SELECT pg_export_snapshot()"))).scalar_one()
        rows = (await connection.execute(text(_VERSIONS))).all()
        options = ("--format=custom", f"--snapshot={snapshot}", f"--file={into}")
        await _run("pg_dump", url, *options)
    return [_to_version(*row) for row in rows]


async def _check_empty_postgresql(url: URL) -> None:
    async with _connection(url) as connection:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        if (await connection.execute(text(tables))).scalar_one():
            raise BackupFailed("there are tables in this database: restore into an empty one")


async def _run(program: str, url: URL, *options: str) -> None:
    if shutil.which(program) is None:
        advice = "Debian, Ubuntu: apt-get install postgresql-client"
        raise BackupFailed(f"{program} is needed for PostgreSQL ({advice})")
    process = await asyncio.create_subprocess_exec(
        program,
        *options,
        env={**os.environ, **libpq_environment(url)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise BackupFailed(f"{program}: {said.decode(errors='replace').strip()}")


def libpq_environment(url: URL) -> Mapping[str, str]:
    """Environment for PostgreSQL's programs, equivalent to the URL for asyncpg."""
    named = {
        "PGHOST": url.host,
        "PGPORT": None if url.port is None else str(url.port),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    options = {_LIBPQ[key]: value for key, value in url.query.items() if key in _LIBPQ}
    found = {**named, **options}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}
