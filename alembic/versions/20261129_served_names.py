"""Served names: what clients write as `model`, besides references

Revision: e3a5c81f07d4
Follows: 8d40b6f1e7a2
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "e3a5c81f07d4"
down_revision: str | None = "8d40b6f1e7a2"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TEXT = sqlmodel.sql.sqltypes.AutoString


def _sorted(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "served_name",
        sa.Column("owner", _sorted(32), nullable=False),
        sa.Column("name", _sorted(256), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("alias", _TEXT(length=64), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", _TEXT(length=256), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"]),
        sa.PrimaryKeyConstraint("owner", "name"),
    )
    op.create_index("ix_served_name_adapter_id", "served_name", ["adapter_id"])


def downgrade() -> None:
    op.drop_index("ix_served_name_adapter_id", "served_name")
    op.drop_table("served_name")
