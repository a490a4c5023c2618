"""Pins and residents belong to a server; the first one that starts takes what was there before

Revision: b90d4c26e71f
Follows: 5ac3e1f7b208
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "b90d4c26e71f"
down_revision: str | None = "5ac3e1f7b208"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PIN = "version_id, tier, pinned_at, expires_at, replicas"
_RESIDENT = "version_id, position"
_TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.create_table(
        "server",
        sa.Column("name", _TEXT(length=256), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"]),
        sa.PrimaryKeyConstraint("name"),
    )
    for table, columns in (("pin", _PIN), ("resident", _RESIDENT)):
        op.rename_table(table, f"{table}_before")
        _create(table, sa.Column("server", _TEXT(length=256), nullable=False))
        copied = f"INSERT INTO {table} (server, {columns}) SELECT '', {columns} FROM {table}_before"
        op.execute(copied)
        op.drop_table(f"{table}_before")


def downgrade() -> None:
    """A version that several servers have keeps the place it has on one of them."""
    for table, columns in (("pin", _PIN), ("resident", _RESIDENT)):
        op.rename_table(table, f"{table}_after")
        _create(table)
        op.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_after AS one WHERE"
            f" server = (SELECT min(server) FROM {table}_after AS every"
            " WHERE every.version_id = one.version_id)"
        )
        op.drop_table(f"{table}_after")
    op.drop_table("server")


def _create(table: str, *key: sa.Column[str]) -> None:
    names = [column.name for column in key]
    columns = {
        "pin": (
            sa.Column("tier", _TEXT(length=8), nullable=False),
            sa.Column("pinned_at", sa.DateTime(timezone=True), nullable=False),
            sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("replicas", sa.Integer(), nullable=True),
            sa.CheckConstraint("tier IN ('gpu', 'host')", name="ck_pin_tier"),
        ),
        "resident": (sa.Column("position", sa.Integer(), nullable=False),),
    }
    op.create_table(
        table,
        *key,
        sa.Column("version_id", sa.Integer(), nullable=False),
        *columns[table],
        sa.ForeignKeyConstraint(["version_id"], ["version.id"]),
        sa.PrimaryKeyConstraint(*names, "version_id"),
    )
