"""history of caches

Revision: a81f03d6c95e
Follows: 4e7b19d5c0a3
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "a81f03d6c95e"
down_revision: str | None = "4e7b19d5c0a3"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "cache_history",
        sa.Column("server", sa.String(length=256), nullable=False),
        sa.Column("began_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("totals", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("server", "began_at"),
    )
    op.create_index("ix_cache_history_expires_at", "cache_history", ["expires_at"])


def downgrade() -> None:
    op.drop_index("ix_cache_history_expires_at", table_name="cache_history")
    op.drop_table("cache_history")
