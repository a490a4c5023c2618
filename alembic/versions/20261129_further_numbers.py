"""Further numbers of versions: another registry's numbers for the same content

Revision: 4e7b19d5c0a3
Follows: e3a5c81f07d4
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "4e7b19d5c0a3"
down_revision: str | None = "e3a5c81f07d4"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "further_number",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.CheckConstraint("number > 0", name="ck_further_number"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"]),
        sa.PrimaryKeyConstraint("adapter_id", "number"),
    )
    op.create_index("ix_further_number_version_id", "further_number", ["version_id"])


def downgrade() -> None:
    op.drop_table("further_number")
