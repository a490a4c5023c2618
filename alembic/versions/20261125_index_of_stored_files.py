"""index of stored files

Revision: 71c0e5a2f9b3
Follows: 2c996db42209
"""

from collections.abc import Sequence

from alembic import op

revision: str = "71c0e5a2f9b3"
down_revision: str | None = "2c996db42209"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """It answers how large the store is without reading any row, and replaces the one by digest."""
    op.create_index("ix_version_files", "version", ["digest", "state", "size_bytes"], unique=False)
    op.drop_index("ix_version_digest", table_name="version")


def downgrade() -> None:
    op.create_index("ix_version_digest", "version", ["digest"], unique=False)
    op.drop_index("ix_version_files", table_name="version")
