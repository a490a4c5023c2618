"""Which schema a database has, and what `adaptry doctor` and `db upgrade` make of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from adaptry.cli import main
from registry.database.engine import Database
from registry.database.migrate import alembic_config, upgrade
from registry.database.schema_revision import schema_state
from registry.database.sqlite_schema import sqlite_schema
from registry.errors import DatabaseUnavailable

pytestmark = pytest.mark.both_databases


def ran(url: str, statement: str) -> None:
    async def run() -> None:
        database = Database(url)
        async with database.transaction() as session:
            await session.execute(text(statement))
        await database.close()

    asyncio.run(run())


def test_missing_migrations_are_counted_and_nothing_is_changed(empty_database: str) -> None:
    for _ in range(2):
        state = schema_state(empty_database)
        assert (state.current, state.is_known) == (None, True)
        assert state.missing >= 9
    upgrade(empty_database)
    newest = schema_state(empty_database)
    assert (newest.current, newest.missing) == (state.newest, 0)


def test_what_an_older_release_made_is_counted_from_there(empty_database: str) -> None:
    command.upgrade(alembic_config(empty_database), "head")
    command.downgrade(alembic_config(empty_database), "-1")
    state = schema_state(empty_database)
    assert (state.missing, state.is_known, state.current == state.newest) == (1, True, False)


def test_looking_at_a_file_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    assert schema_state(f"sqlite:///{tmp_path}/none.db").current is None
    assert not list(tmp_path.iterdir())


def test_the_schema_of_another_release_is_recognised(empty_database: str) -> None:
    upgrade(empty_database)
    ran(empty_database, "UPDATE alembic_version SET version_num = 'f00f00f00f00'")
    state = schema_state(empty_database)
    assert (state.is_known, state.missing) == (False, 0)


@pytest.mark.parametrize("statement", ["", "UPDATE alembic_version SET version_num = 'f00f'"])
def test_an_sqlite_file_says_the_same_without_sqlalchemy(tmp_path: Path, statement: str) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    assert sqlite_schema(url) == schema_state(url)
    command.upgrade(alembic_config(url), "head")
    command.downgrade(alembic_config(url), "-1")
    if statement:
        ran(url, statement)
    state = sqlite_schema(url)
    assert state == schema_state(url)
    assert state is not None
    assert state.missing == (0 if statement else 1)


def test_an_sqlite_file_without_tables_or_of_something_else_is_said(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(b"")
    assert sqlite_schema(f"sqlite:///{file}") == schema_state(f"sqlite:///{file}")
    file.write_bytes(b"nonsense" * 1000)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        sqlite_schema(f"sqlite+aiosqlite:///{file}")
    assert sqlite_schema("postgresql://x@y/z") is None


def test_a_database_that_is_away_is_said() -> None:
    with pytest.raises(DatabaseUnavailable):
        schema_state("postgresql://nobody@127.0.0.1:1/none")


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *arguments, "--server", "http://127.0.0.1:1", "--json"])
    return code, {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_doctor_asks_for_the_migrations_that_are_missing(
    empty_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, findings = examined(capsys, "--database", empty_database)
    assert (code, findings["database"]["health"]) == (0, "warning")
    assert "adaptry db upgrade" in findings["database"]["fix"]
    assert main(["db", "upgrade", "--database", empty_database, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["up_to_date"] is True
    code, findings = examined(capsys, "--database", empty_database)
    assert (code, findings["database"]["health"]) == (0, "ok")
    ran(empty_database, "UPDATE alembic_version SET version_num = 'f00f00f00f00'")
    code, findings = examined(capsys, "--database", empty_database)
    assert (code, findings["database"]["health"]) == (1, "broken")
    assert "f00f00f00f00" in findings["database"]["detail"]
