"""Fixtures: a test with a database runs on SQLite; `both_databases`: on PostgreSQL too.

Both where SQL, locks, transactions or a crash are what is tested. A test's own parameter
`database_kind` goes before the marks of its module.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from registry.database.migrate import upgrade
from tests.support.databases.compiled_statements import compiled_once
from tests.support.databases.kept_psql import KeptPsql
from tests.support.databases.postgres import PostgresServer, binaries

# Tests leave few rows: to truncate makes new files for each table and index, and takes six times
# as long. Without triggers, those of foreign keys included, the order is any. The lock waits, as
# TRUNCATE does, for what a killed server's connection still commits: DELETE doesn't see it.
EMPTY_ALL_TABLES = """
SET lock_timeout = '10s';
SET session_replication_role = replica;
DO $$
DECLARE filled text;
BEGIN
    FOR filled IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    LOOP
        EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', filled);
        EXECUTE format('DELETE FROM %I', filled);
    END LOOP;
    PERFORM setval(format('public.%I', sequencename), start_value, false)
    FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL;
END $$
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


KINDS = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = metafunc.definition.get_closest_marker
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "database_kind" not in metafunc.fixturenames or any("database_kind" in c for c in chosen):
        return
    kinds = KINDS if marked("both_databases") else KINDS[:1]
    if marked("only_postgresql"):
        kinds = KINDS[1:]
    metafunc.parametrize("database_kind", kinds, indirect=True)


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def empty_database(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if database_kind == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/registry.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(f"empty_{next(_numbers)}")


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database without rows, of its own for each test."""
    return _without_rows(tmp_path / "registry.db", "migrated", database_kind, request)


@pytest.fixture
def other_database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A second such database beside it."""
    return _without_rows(tmp_path / "other.db", "migrated_too", database_kind, request)


def _without_rows(file: Path, name: str, kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        return f"sqlite+aiosqlite:///{file}"
    empty: Callable[[str], str] = request.getfixturevalue("emptied_postgres")
    return empty(name)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "registry.db"
    _migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> PostgresServer:
    _migrate(postgres.new_database("migrated"))
    postgres.new_database("migrated_too", template="migrated")
    return postgres


@pytest.fixture(scope="session")
def emptied_postgres(migrated_postgres: PostgresServer) -> Iterator[Callable[[str], str]]:
    """Empties a database of this name; its URL."""
    with ExitStack() as stack:
        kept = cache(lambda name: stack.enter_context(KeptPsql(migrated_postgres, name)))

        def emptied(name: str) -> str:
            kept(name).run(EMPTY_ALL_TABLES)
            return migrated_postgres.url(name)

        yield emptied


def _migrate(url: str) -> None:
    """In a thread, as Alembic runs an event loop and so may the test."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(upgrade, url).result()
