"""tenants and grants

Revision: 3e8b54d7c1f2
Follows: 7d41f0c95ae3
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "3e8b54d7c1f2"
down_revision: str | None = "7d41f0c95ae3"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SORTED = sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "tenant",
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sqlmodel.sql.sqltypes.AutoString(length=256), nullable=False),
        sa.Column("max_requests_in_flight", sa.Integer(), nullable=True),
        sa.Column("max_slots", sa.Integer(), nullable=True),
        sa.Column("max_host_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_pins", sa.Integer(), nullable=True),
        sa.Column("max_storage_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_registrations_per_hour", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "adapter_grant",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("tenant", _SORTED, nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("granted_by", sqlmodel.sql.sqltypes.AutoString(length=256), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"]),
        sa.PrimaryKeyConstraint("adapter_id", "tenant"),
    )
    op.create_index("ix_adapter_grant_tenant", "adapter_grant", ["tenant"])
    op.add_column(
        "event", sa.Column("address", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("event", "address")
    op.drop_index("ix_adapter_grant_tenant", table_name="adapter_grant")
    op.drop_table("adapter_grant")
    op.drop_table("tenant")
