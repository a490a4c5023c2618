"""Migrations and models agree, and the way down is a way back."""

import sqlite3
from pathlib import Path

from alembic import command
from sqlmodel import SQLModel

from registry.migrate import alembic_config, upgrade


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows if not name.startswith("sqlite_")}


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/new/registry.db"
    upgrade(url)
    command.check(alembic_config(url))


def test_up_down_and_up_again_with_rows(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    url = f"sqlite+aiosqlite:///{path}"
    upgrade(url)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO adapter (name, created_at) VALUES ('a', '2026-01-01')")
    connection.commit()
    connection.close()
    command.downgrade(alembic_config(url), "base")
    assert tables(path) == {"alembic_version"}
    upgrade(url)
    assert tables(path) == {"alembic_version", *SQLModel.metadata.tables}


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/registry.db"
    upgrade(url)
    upgrade(url)
    assert "version" in tables(tmp_path / "registry.db")


def test_row_ids_are_never_reused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    upgrade(f"sqlite+aiosqlite:///{path}")
    connection = sqlite3.connect(path)
    insert = "INSERT INTO adapter (name, created_at) VALUES (?, '2026-01-01')"
    first = connection.execute(insert, ("a",)).lastrowid
    connection.execute("DELETE FROM adapter")
    second = connection.execute(insert, ("b",)).lastrowid
    connection.close()
    assert first is not None
    assert second is not None
    assert second > first
