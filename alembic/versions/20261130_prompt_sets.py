"""prompt sets

Revision: c3d95f1be704
Follows: a81f03d6c95e
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "c3d95f1be704"
down_revision: str | None = "a81f03d6c95e"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _bytewise(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "prompt_set",
        sa.Column("owner", _bytewise(32), nullable=False),
        sa.Column("name", _bytewise(64), nullable=False),
        sa.Column("prompts", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name"),
    )


def downgrade() -> None:
    op.drop_table("prompt_set")
