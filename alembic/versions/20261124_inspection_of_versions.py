"""inspection of versions

Revision: 3b7e91c54d20
Follows: 9c6402442c04
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "3b7e91c54d20"
down_revision: str | None = "9c6402442c04"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("version", sa.Column("inspection", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    # Not as a batch, which would make SQLite's table anew, and without AUTOINCREMENT
    op.drop_column("version", "inspection")
