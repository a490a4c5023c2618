"""bytes of prompt sets

Revision: 5be0d27c84f1
Follows: 7d20c4e8b1f6
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "5be0d27c84f1"
down_revision: str | None = "7d20c4e8b1f6"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SETS = sa.table(
    "prompt_set",
    sa.column("owner", sa.String),
    sa.column("name", sa.String),
    sa.column("prompts", sa.JSON),
    sa.column("size_bytes", sa.BigInteger),
)


def upgrade() -> None:
    column = sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("prompt_set", column)
    connection = op.get_bind()
    for owner, name in connection.execute(sa.select(_SETS.c.owner, _SETS.c.name)).all():
        this = (_SETS.c.owner == owner, _SETS.c.name == name)
        prompts = connection.execute(sa.select(_SETS.c.prompts).where(*this)).scalar_one()
        size_bytes = sum(len(prompt.encode()) for prompt in prompts)
        connection.execute(sa.update(_SETS).where(*this).values(size_bytes=size_bytes))


def downgrade() -> None:
    op.drop_column("prompt_set", "size_bytes")
