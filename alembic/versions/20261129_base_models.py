"""Base models, and the one that each version was checked against

Revision: 5ac3e1f7b208
Follows: 7d2f90ab6c13
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "5ac3e1f7b208"
down_revision: str | None = "7d2f90ab6c13"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.create_table(
        "base_model",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", text(length=256), nullable=False),
        sa.Column("digest", text(length=64), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "digest", name="uq_base_model"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "base_model_link",
        sa.Column("first_id", sa.Integer(), nullable=False),
        sa.Column("second_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", text(length=256), nullable=False),
        sa.CheckConstraint("first_id < second_id", name="ck_base_model_link"),
        sa.ForeignKeyConstraint(["first_id"], ["base_model.id"]),
        sa.ForeignKeyConstraint(["second_id"], ["base_model.id"]),
        sa.PrimaryKeyConstraint("first_id", "second_id"),
    )
    base = sa.Column("base_id", sa.Integer(), sa.ForeignKey("base_model.id"), nullable=True)
    op.add_column("version", base, inline_references=True)
    op.create_index("ix_version_base_id", "version", ["base_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_version_base_id", table_name="version")
    op.drop_column("version", "base_id")
    op.drop_table("base_model_link")
    op.drop_table("base_model")
