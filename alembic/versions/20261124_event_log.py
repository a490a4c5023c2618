"""event log: details, an identity of their own, and nothing but additions

Revision: 5b1f0c7a92de
Follows: c07d92b5e816
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "5b1f0c7a92de"
down_revision: str | None = "c07d92b5e816"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REFUSAL = "events are only ever added"

SQLITE_TRIGGERS = {
    "event_no_update": f"BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    "event_no_delete": f"BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    # INSERT OR REPLACE deletes without a word to the trigger above
    "event_no_replace": f"""BEFORE INSERT ON event
        WHEN EXISTS (SELECT 1 FROM event WHERE id = NEW.id OR uid = NEW.uid)
        BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END""",
}

# Ids are given out before they are committed, so that a reader may see 7 before 6. Each writer
# holds this lock, shared, from before it takes an id until its end: registry/events/watermark.py looks
# who does. The number is any that no other program uses: 8 bytes of sha256("adaptry event").
LOCK_KEY = 0x2843855D679E684E

WIDER_IDS = (
    "ALTER TABLE event ALTER COLUMN id TYPE bigint",
    "ALTER SEQUENCE event_id_seq AS bigint",
)
NARROWER_IDS = (
    "ALTER SEQUENCE event_id_seq AS integer",
    "ALTER TABLE event ALTER COLUMN id TYPE integer",
)

POSTGRESQL_TRIGGERS = {
    "event_no_change": "BEFORE UPDATE OR DELETE OR TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION event_refuse()",
    "event_writer": "BEFORE INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION event_hold()",
}


def upgrade() -> None:
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.add_column(sa.Column("uid", sqlmodel.sql.sqltypes.AutoString(length=32)))
        batch_op.add_column(sa.Column("data", sa.JSON()))
        batch_op.add_column(sa.Column("imported", sa.Boolean()))

    is_sqlite = op.get_bind().dialect.name == "sqlite"
    uid = "lower(hex(randomblob(16)))" if is_sqlite else "replace(gen_random_uuid()::text, '-', '')"
    op.execute(f"UPDATE event SET uid = {uid}, data = '{{}}', imported = false")

    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.alter_column("uid", nullable=False, existing_type=sa.String(32))
        batch_op.alter_column("data", nullable=False, existing_type=sa.JSON())
        batch_op.alter_column("imported", nullable=False, existing_type=sa.Boolean())
        batch_op.alter_column("adapter_id", nullable=True, existing_type=sa.Integer())
        batch_op.create_unique_constraint("uq_event_uid", ["uid"])
        batch_op.create_index("ix_event_kind", ["kind", "id"], unique=False)
        batch_op.create_index("ix_event_at", ["at"], unique=False)

    for statement in sqlite_triggers() if is_sqlite else [*WIDER_IDS, *postgresql_triggers()]:
        op.execute(statement)


def sqlite_triggers() -> list[str]:
    return [f"CREATE TRIGGER {name} {rule}" for name, rule in SQLITE_TRIGGERS.items()]


def postgresql_triggers() -> list[str]:
    return [
        f"""CREATE FUNCTION event_refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation'; END $$""",
        f"""CREATE FUNCTION event_hold() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK_KEY}); RETURN NULL; END $$""",
        *(f"CREATE TRIGGER {name} {rule}" for name, rule in POSTGRESQL_TRIGGERS.items()),
    ]


def downgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if is_sqlite:
        for name in SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
    else:
        op.execute("DROP FUNCTION event_refuse, event_hold CASCADE")
        for statement in NARROWER_IDS:
            op.execute(statement)
    op.execute("DELETE FROM event WHERE adapter_id IS NULL")  # the older table can't hold them

    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index("ix_event_at")
        batch_op.drop_index("ix_event_kind")
        batch_op.drop_constraint("uq_event_uid", type_="unique")
        batch_op.alter_column("adapter_id", nullable=False, existing_type=sa.Integer())
        batch_op.drop_column("imported")
        batch_op.drop_column("data")
        batch_op.drop_column("uid")
