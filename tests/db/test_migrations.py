"""Migrations and models agree on both databases, and the way down is a way back, with rows."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from registry.database.migrate import alembic_config, upgrade
from registry.errors import DatabaseUnavailable
from tests.db import rows

pytestmark = pytest.mark.both_databases

ROWS = (
    "INSERT INTO adapter (id, name, created_at) VALUES (1, 'support-bot', '2026-01-01 00:00:00')",
    rows.version(modules='["q_proj", "v_proj"]'),
    "INSERT INTO alias (adapter_id, name, version_id, moved_at) VALUES"
    " (1, 'default', 1, '2026-01-02 00:00:00')",
    "INSERT INTO event (id, at, actor, kind, adapter_id) VALUES"
    " (1, '2026-01-01 00:00:00', 'x', 'version.registered', 1)",
)


def asked(url: str, *statements: str) -> list[Any]:
    """Rows of the last statement, from a thread of its own."""

    async def ask() -> list[Any]:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            found = list(result) if result.returns_rows else []
        await engine.dispose()
        return found

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()


def tables(url: str) -> set[str]:
    async def look() -> set[str]:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda c: sqlalchemy.inspect(c).get_table_names())
        await engine.dispose()
        return set(names)

    return asyncio.run(look())


def revisions(url: str) -> list[str]:
    """The newest first."""
    scripts = ScriptDirectory.from_config(alembic_config(url))
    return [script.revision for script in scripts.walk_revisions()]


def test_models_and_migrations_agree(empty_database: str) -> None:
    upgrade(empty_database)
    command.check(alembic_config(empty_database))


def test_up_down_and_up_again_with_rows(empty_database: str) -> None:
    """One revision at a time, there and back, from rows of the first schema."""
    url, config = empty_database, alembic_config(empty_database)
    first = revisions(url)[-1]
    command.upgrade(config, first)
    asked(url, *ROWS)
    for _ in range(2):
        upgrade(url)
        fill_new_columns(url)
        for revision in revisions(url)[1:]:
            command.downgrade(config, revision)
        assert asked(url, "SELECT state, rank FROM version") == [("ready", 8)]
        assert asked(url, "SELECT name, version_id FROM alias") == [("default", 1)]
        moved = str(asked(url, "SELECT moved_at FROM alias")[0][0])
        assert moved.startswith("2026-01-02"), "the time of the move survives both ways"
    upgrade(url)
    command.check(config)
    command.downgrade(config, "base")
    assert tables(url) == {"alembic_version"}


def fill_new_columns(url: str) -> None:
    asked(
        url,
        "UPDATE adapter SET owner = 'team', tags = '[\"x\"]', description = 'words'",
        "UPDATE version SET state = 'retired', state_code = 'x', state_reason = 'y',"
        " parent_id = 1, dataset = 'd', user_metadata = '{\"a\": 1}'",
        "UPDATE version SET state = 'ready'",
        "UPDATE alias_history SET reason = 'z'",
    )


def test_what_was_there_is_found_and_has_a_history(empty_database: str) -> None:
    url = empty_database
    command.upgrade(alembic_config(url), revisions(url)[-1])
    asked(url, *ROWS)
    upgrade(url)
    terms = asked(url, "SELECT kind, value FROM version_term WHERE version_id = 1")
    assert set(terms) == {
        ("target_module", "q_proj"),
        ("target_module", "v_proj"),
        ("word", "support"),
        ("word", "bot"),
    }
    assert set(asked(url, "SELECT value FROM adapter_term")) == {("support",), ("bot",)}
    history = asked(url, "SELECT alias, revision, version_id, weight, valid_to FROM alias_history")
    assert history == [("default", 1, 1, 1, None)]


def test_prompts_that_were_there_are_counted(empty_database: str) -> None:
    url = empty_database
    command.upgrade(alembic_config(url), "c3d95f1be704")
    asked(
        url,
        "INSERT INTO prompt_set (owner, name, prompts, updated_at, updated_by) VALUES"
        " ('acme', 'a', '[\"\u0434ом\", \"x\"]', '2026-01-01 00:00:00', 'x')",
    )
    upgrade(url)
    assert asked(url, "SELECT size_bytes FROM prompt_set") == [(7,)]


def test_upgrading_twice_changes_nothing(empty_database: str) -> None:
    upgrade(empty_database)
    before = tables(empty_database)
    upgrade(empty_database)
    assert tables(empty_database) == before >= {"version", "alias_history", "version_term"}


def test_a_database_of_a_newer_version_is_refused_in_words(empty_database: str) -> None:
    upgrade(empty_database)
    asked(empty_database, "UPDATE alembic_version SET version_num = 'ffff00000000'")
    with pytest.raises(DatabaseUnavailable, match="upgraded this database to ffff00000000"):
        upgrade(empty_database)


@pytest.mark.parametrize("table", ["adapter", "version"])
def test_row_ids_are_never_reused(database_url: str, table: str) -> None:
    """The engine and its prefix cache know a version by its row id."""
    asked(database_url, *_rows_without_ids())
    newest = asked(database_url, f"SELECT max(id) FROM {table}")[0][0]
    asked(database_url, "DELETE FROM version", "DELETE FROM adapter")
    asked(database_url, *_rows_without_ids())
    assert asked(database_url, f"SELECT min(id) FROM {table}")[0][0] > newest


def _rows_without_ids() -> list[str]:
    adapter = "(SELECT max(id) FROM adapter)"
    return [
        "INSERT INTO adapter (name, created_at) VALUES ('a', '2026-01-01 00:00:00')",
        rows.version(id="", adapter=adapter),
    ]
