"""The column that keeps what inspection checked."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from registry.database.migrate import alembic_config


def test_versions_from_before_inspection_was_kept_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    config = alembic_config(f"sqlite+aiosqlite:///{path}")
    revision = ScriptDirectory.from_config(config).get_revision("3b7e91c54d20")
    assert revision is not None
    before = str(revision.down_revision)
    path.touch()
    command.upgrade(config, before)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO adapter (name, created_at) VALUES ('a', '2026-01-01')")
    connection.execute(
        "INSERT INTO version (adapter_id, number, digest, state, rank, alpha, target_modules,"
        " dtype, size_bytes, source, peft_config, created_at, created_by)"
        " VALUES (1, 1, 'd', 'ready', 4, 8, '[]', 'float32', 1, 's', '{}', '2026-01-01', 'x')"
    )
    connection.commit()
    command.upgrade(config, "head")
    assert connection.execute("SELECT inspection FROM version").fetchall() == [(None,)]
    command.downgrade(config, before)
    command.upgrade(config, "head")
    definition = "SELECT sql FROM sqlite_master WHERE name = 'version'"
    assert "AUTOINCREMENT" in connection.execute(definition).fetchone()[0]
    connection.close()
