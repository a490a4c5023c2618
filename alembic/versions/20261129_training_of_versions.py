"""Chat template and sampling defaults of versions, and whether they are served

Revision: 8d40b6f1e7a2
Follows: 1f6a83c29be4
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "8d40b6f1e7a2"
down_revision: str | None = "1f6a83c29be4"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SETTINGS = ("serve_chat_template", "serve_sampling_defaults")


def upgrade() -> None:
    op.add_column("version", sa.Column("chat_template", sa.Text(), nullable=True))
    op.add_column("version", sa.Column("sampling_defaults", sa.JSON(), nullable=True))
    for name in _SETTINGS:
        column = sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        op.add_column("adapter", column)


def downgrade() -> None:
    for name in _SETTINGS:
        op.drop_column("adapter", name)
    op.drop_column("version", "sampling_defaults")
    op.drop_column("version", "chat_template")
