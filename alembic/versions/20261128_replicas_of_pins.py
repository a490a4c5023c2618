"""On how many replicas a pin is kept

Revision: 7d2f90ab6c13
Follows: c4a1b7e05d92
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "7d2f90ab6c13"
down_revision: str | None = "c4a1b7e05d92"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("pin", sa.Column("replicas", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("pin", "replicas")
