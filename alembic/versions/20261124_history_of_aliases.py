"""history of aliases, and aliases over several versions

Revision: 8e54a7c1d3f0
Follows: 3b1f6d0c92a4
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "8e54a7c1d3f0"
down_revision: str | None = "3b1f6d0c92a4"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SORTED_NAME = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "alias_history",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("alias", SORTED_NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sqlmodel.sql.sqltypes.AutoString(length=256), nullable=False),
        sa.Column("reason", sqlmodel.sql.sqltypes.AutoString(length=1024), nullable=True),
        sa.CheckConstraint("weight > 0", name="ck_alias_history_weight"),
        sa.CheckConstraint("valid_to > valid_from", name="ck_alias_history_time"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"]),
        sa.PrimaryKeyConstraint("adapter_id", "alias", "revision", "version_id"),
    )
    at = ["adapter_id", "alias", "valid_from"]
    op.create_index("ix_alias_history_time", "alias_history", at)
    op.create_index("ix_alias_history_version", "alias_history", ["version_id", "valid_to"])
    op.execute(
        "INSERT INTO alias_history"
        " (adapter_id, alias, revision, version_id, weight, valid_from, actor, reason)"
        " SELECT adapter_id, name, 1, version_id, 1, moved_at, 'migration', 'where it stood'"
        " FROM alias"
    )
    op.add_column("alias", sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
    op.drop_column("alias", "moved_at")
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE alias ALTER COLUMN name TYPE varchar(64) COLLATE "C"')


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE alias ALTER COLUMN name TYPE varchar(64) COLLATE "default"')
    moved_at = sa.Column(
        "moved_at", sa.DateTime(timezone=True), nullable=False, server_default="1970-01-01 00:00:00"
    )
    op.add_column("alias", moved_at)
    op.execute(
        "UPDATE alias SET moved_at = (SELECT max(valid_from) FROM alias_history AS h"
        " WHERE h.adapter_id = alias.adapter_id AND h.alias = alias.name"
        " AND h.revision = alias.revision)"
    )
    op.drop_column("alias", "revision")
    op.drop_index("ix_alias_history_version", table_name="alias_history")
    op.drop_index("ix_alias_history_time", table_name="alias_history")
    op.drop_table("alias_history")
