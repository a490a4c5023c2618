"""Registrations of tenants, which are counted for an hour

Revision: c4a1b7e05d92
Follows: 3e8b54d7c1f2
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "c4a1b7e05d92"
down_revision: str | None = "3e8b54d7c1f2"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "tenant_registration",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tenant", sqlmodel.sql.sqltypes.AutoString(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tenant_registration_at", "tenant_registration", ["tenant", "at"])


def downgrade() -> None:
    op.drop_table("tenant_registration")
