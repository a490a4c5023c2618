"""states of versions: only allowed changes

Revision: 3b1f6d0c92a4
Follows: 646b2ac67985
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "3b1f6d0c92a4"
down_revision: str | None = "646b2ac67985"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ALLOWED = {
    "pending": ("ready", "rejected"),
    "ready": ("deprecated", "retired", "quarantined"),
    "deprecated": ("ready", "retired", "quarantined"),
    "retired": ("ready", "quarantined", "purged"),
    "quarantined": ("ready", "retired", "purged"),
    "rejected": ("ready", "purged"),
    "purged": ("ready",),
}
CHANGES = ", ".join(f"'{old}>{new}'" for old, news in ALLOWED.items() for new in news)

# SQLite drops a table's triggers when a later migration makes the table anew (batch mode).
SQLITE = (
    f"""
    CREATE TRIGGER version_state_guard BEFORE UPDATE OF state ON version
    WHEN OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) NOT IN ({CHANGES})
    BEGIN SELECT RAISE(ABORT, 'a version may not change its state so'); END
    """,
    """
    CREATE TRIGGER version_content_guard BEFORE UPDATE OF id, adapter_id, number, digest ON version
    WHEN OLD.state <> 'pending' AND (OLD.id, OLD.adapter_id, OLD.number, OLD.digest)
        IS NOT (NEW.id, NEW.adapter_id, NEW.number, NEW.digest)
    BEGIN SELECT RAISE(ABORT, 'a version may not change its number or content'); END
    """,
)
POSTGRESQL = (
    f"""
    CREATE FUNCTION version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) NOT IN ({CHANGES}) THEN
            RAISE EXCEPTION 'a version may not change its state so' USING ERRCODE = 'check_violation';
        END IF;
        IF OLD.state <> 'pending' AND (OLD.id, OLD.adapter_id, OLD.number, OLD.digest)
            IS DISTINCT FROM (NEW.id, NEW.adapter_id, NEW.number, NEW.digest) THEN
            RAISE EXCEPTION 'a version may not change its number or content'
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER version_guard BEFORE UPDATE ON version
    FOR EACH ROW EXECUTE FUNCTION version_guard()
    """,
)


def upgrade() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.add_column("version", sa.Column("state_code", text(length=64), nullable=True))
    changed_at = sa.Column("state_changed_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("version", changed_at)
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in POSTGRESQL if on_postgresql else SQLITE:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER version_guard ON version")
        op.execute("DROP FUNCTION version_guard()")
    else:
        op.execute("DROP TRIGGER version_state_guard")
        op.execute("DROP TRIGGER version_content_guard")
    op.drop_column("version", "state_changed_at")
    op.drop_column("version", "state_code")
