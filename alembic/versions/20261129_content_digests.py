"""Digests over the content of versions, however their files are written

Revision: 1f6a83c29be4
Follows: 5c2e9a7b40d6
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "1f6a83c29be4"
down_revision: str | None = "5c2e9a7b40d6"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("version", sa.Column("content_digest", sa.String(length=64), nullable=True))
    op.create_index("ix_version_content", "version", ["adapter_id", "content_digest"])


def downgrade() -> None:
    op.drop_index("ix_version_content", "version")
    op.drop_column("version", "content_digest")
