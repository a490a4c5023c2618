"""rates of keys and tenants

Revision: 5c2e9a7b40d6
Follows: b90d4c26e71f
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "5c2e9a7b40d6"
down_revision: str | None = "b90d4c26e71f"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NAME = sa.String(length=256).with_variant(sa.String(length=256, collation="C"), "postgresql")
_LIMITS = (
    ("max_requests_per_minute", sa.Integer()),
    ("max_tokens_per_minute", sa.BigInteger()),
    ("max_bytes_per_minute", sa.BigInteger()),
)


def upgrade() -> None:
    for table in ("tenant", "api_key"):
        for name, kind in _LIMITS:
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.create_table(
        "rate_count",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_rate_count_expires_at", "rate_count", ["expires_at"])


def downgrade() -> None:
    op.drop_index("ix_rate_count_expires_at", table_name="rate_count")
    op.drop_table("rate_count")
    for table in ("tenant", "api_key"):
        for name, _ in _LIMITS:
            op.drop_column(table, name)
