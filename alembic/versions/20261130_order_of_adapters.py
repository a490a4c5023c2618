"""order of adapters: what their table is sorted by, kept by triggers

Revision: 7d20c4e8b1f6
Follows: c3d95f1be704
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "7d20c4e8b1f6"
down_revision: str | None = "c3d95f1be704"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# PostgreSQL's index takes 2,700 bytes of a row
PREFIX = 200
COLUMNS = (
    *("created_at", "owner", "description", "tags", "aliases", "versions"),
    *("version", "state", "rank", "size_bytes"),
)
OF_DEFAULT = "version, state, rank, size_bytes"


def _bytewise(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _tags(column: str, is_sqlite: bool) -> str:
    """As the database has their JSON, without brackets; NULL if there are none."""
    text = f"trim({column}, '[]')" if is_sqlite else f"trim(both '[]' from {column}::text)"
    return f"nullif(substr({text}, 1, {PREFIX}), '')"


def _default(adapter: str, columns: str) -> str:
    return (
        f"(SELECT {columns} FROM alias JOIN version ON version.id = alias.version_id "
        f"WHERE alias.adapter_id = {adapter} AND alias.name = 'default')"
    )


def _default_tags(adapter: str, is_sqlite: bool) -> str:
    return _default(adapter, _tags("version.tags", is_sqlite))


def _aliases(adapter: str, is_sqlite: bool) -> str:
    names = f"SELECT name FROM alias WHERE adapter_id = {adapter} ORDER BY name"
    joined = "group_concat(name, ' ')" if is_sqlite else "string_agg(name, ' ' ORDER BY name)"
    return f"(SELECT substr({joined}, 1, {PREFIX}) FROM ({names}) AS sorted)"


def _fill(is_sqlite: bool) -> str:
    tags = f"coalesce({_tags('adapter.tags', is_sqlite)}, {_default_tags('adapter.id', is_sqlite)})"
    from_default = ", ".join(
        _default("adapter.id", f"version.{each}")
        for each in ("number", "state", "rank", "size_bytes")
    )
    return f"""
        INSERT INTO adapter_order (adapter_id, name, {", ".join(COLUMNS)})
        SELECT id, name, created_at, owner, substr(description, 1, {PREFIX}), {tags},
            {_aliases("adapter.id", is_sqlite)},
            (SELECT count(*) FROM version WHERE version.adapter_id = adapter.id), {from_default}
        FROM adapter
    """


# ---- what the triggers do: the rows that they are for are those of NEW or OLD ---------------


def _on_adapter_added(is_sqlite: bool) -> str:
    return f"""
        INSERT INTO adapter_order (adapter_id, name, created_at, owner, description, tags, versions)
        VALUES (NEW.id, NEW.name, NEW.created_at, NEW.owner, substr(NEW.description, 1, {PREFIX}),
            {_tags("NEW.tags", is_sqlite)}, 0);
    """


def _on_adapter_changed(is_sqlite: bool) -> str:
    tags = f"coalesce({_tags('NEW.tags', is_sqlite)}, {_default_tags('NEW.id', is_sqlite)})"
    return f"""
        UPDATE adapter_order SET name = NEW.name, created_at = NEW.created_at, owner = NEW.owner,
            description = substr(NEW.description, 1, {PREFIX}), tags = {tags}
        WHERE adapter_id = NEW.id;
    """


def _on_alias(row: str, is_sqlite: bool) -> str:
    adapter = f"{row}.adapter_id"
    own_tags = f"(SELECT {_tags('tags', is_sqlite)} FROM adapter WHERE id = {adapter})"
    values = "version.number, version.state, version.rank, version.size_bytes"
    return f"""
        UPDATE adapter_order SET aliases = {_aliases(adapter, is_sqlite)},
            ({OF_DEFAULT}) = {_default(adapter, values)},
            tags = coalesce({own_tags}, {_default_tags(adapter, is_sqlite)})
        WHERE adapter_id = {adapter};
    """


def _on_version_changed(is_sqlite: bool) -> str:
    own_tags = f"(SELECT {_tags('tags', is_sqlite)} FROM adapter WHERE id = NEW.adapter_id)"
    return f"""
        UPDATE adapter_order SET state = NEW.state, rank = NEW.rank, size_bytes = NEW.size_bytes,
            tags = coalesce({own_tags}, {_tags("NEW.tags", is_sqlite)})
        WHERE adapter_id = NEW.adapter_id AND EXISTS (SELECT 1 FROM alias
            WHERE adapter_id = NEW.adapter_id AND name = 'default' AND version_id = NEW.id);
    """


ADDED = "UPDATE adapter_order SET versions = versions + 1 WHERE adapter_id = NEW.adapter_id;"
DELETED = "UPDATE adapter_order SET versions = versions - 1 WHERE adapter_id = OLD.adapter_id;"
GONE = "DELETE FROM adapter_order WHERE adapter_id = OLD.id;"


def _triggers(is_sqlite: bool) -> dict[str, tuple[str, str]]:
    """When, and what, by name."""
    changed = "name, created_at, owner, description, tags"
    return {
        "order_adapter_added": ("AFTER INSERT ON adapter", _on_adapter_added(is_sqlite)),
        "order_adapter_changed": (
            f"AFTER UPDATE OF {changed} ON adapter",
            _on_adapter_changed(is_sqlite),
        ),
        "order_adapter_deleted": ("BEFORE DELETE ON adapter", GONE),
        "order_alias_added": ("AFTER INSERT ON alias", _on_alias("NEW", is_sqlite)),
        "order_alias_moved": ("AFTER UPDATE ON alias", _on_alias("NEW", is_sqlite)),
        "order_alias_deleted": ("AFTER DELETE ON alias", _on_alias("OLD", is_sqlite)),
        "order_version_added": ("AFTER INSERT ON version", ADDED),
        "order_version_changed": (
            "AFTER UPDATE OF state, rank, size_bytes, tags ON version",
            _on_version_changed(is_sqlite),
        ),
        "order_version_deleted": ("AFTER DELETE ON version", DELETED),
    }


def _statements(is_sqlite: bool) -> list[str]:
    made = []
    for name, (when, what) in _triggers(is_sqlite).items():
        if is_sqlite:
            made.append(f"CREATE TRIGGER {name} {when} BEGIN {what} END")
            continue
        returned = "OLD" if when.startswith("BEFORE") else "NULL"
        made += [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {what} RETURN {returned}; END $$",
            f"CREATE TRIGGER {name} {when} FOR EACH ROW EXECUTE FUNCTION {name}()",
        ]
    return made


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "adapter_order",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("name", _bytewise(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", _bytewise(256), nullable=True),
        sa.Column("description", _bytewise(PREFIX), nullable=True),
        sa.Column("tags", _bytewise(PREFIX), nullable=True),
        sa.Column("aliases", _bytewise(PREFIX), nullable=True),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("state", _bytewise(16), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"]),
        sa.PrimaryKeyConstraint("adapter_id"),
    )
    op.execute(_fill(is_sqlite))
    for column in COLUMNS:
        op.create_index(
            f"ix_adapter_order_{column}",
            "adapter_order",
            [column, "name"],
            postgresql_include=["adapter_id"],
        )
    for statement in _statements(is_sqlite):
        op.execute(statement)


def downgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in _triggers(is_sqlite):
        op.execute(f"DROP TRIGGER {name}" if is_sqlite else f"DROP FUNCTION {name}() CASCADE")
    op.drop_table("adapter_order")
