"""metadata and search

Revision: c07d92b5e816
Follows: 8e54a7c1d3f0
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "c07d92b5e816"
down_revision: str | None = "8e54a7c1d3f0"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NEW_COLUMNS = ("description", "tags", "user_metadata", "training_run", "dataset", "updated_at")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE adapter ALTER COLUMN name TYPE varchar(64) COLLATE "C"')
    _add_columns()
    _create_terms("adapter", sa.Column("adapter_name", _sorted(64), nullable=False), "name")
    _create_terms("version", sa.Column("version_id", sa.Integer(), nullable=False), "id")
    op.create_index("ix_adapter_owner", "adapter", ["owner", "name"])
    for column in ("state", "rank", "base_model"):
        op.create_index(f"ix_version_{column}", "version", [column, "id"])
    op.create_index("ix_version_parent_id", "version", ["parent_id"])
    _fill_terms()


def downgrade() -> None:
    for index in ("parent_id", "base_model", "rank", "state"):
        op.drop_index(f"ix_version_{index}", table_name="version")
    op.drop_index("ix_adapter_owner", table_name="adapter")
    op.drop_table("version_term")
    op.drop_table("adapter_term")
    for column in (*NEW_COLUMNS, "parent_id"):
        op.drop_column("version", column)
    for column in ("owner", "tags", "user_metadata", "updated_at"):
        op.drop_column("adapter", column)
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE adapter ALTER COLUMN name TYPE varchar(64) COLLATE "default"')


def _add_columns() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.add_column("adapter", sa.Column("owner", text(length=256), nullable=True))
    op.add_column("version", sa.Column("description", text(length=4096), nullable=True))
    op.add_column("version", sa.Column("training_run", text(length=1024), nullable=True))
    op.add_column("version", sa.Column("dataset", text(length=1024), nullable=True))
    parent = sa.Column("parent_id", sa.Integer(), sa.ForeignKey("version.id"), nullable=True)
    op.add_column("version", parent, inline_references=True)
    for table in ("adapter", "version"):
        tags = sa.Column("tags", sa.JSON(), nullable=False, server_default="[]")
        metadata = sa.Column("user_metadata", sa.JSON(), nullable=False, server_default="{}")
        op.add_column(table, tags)
        op.add_column(table, metadata)
        updated_at = sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, updated_at)


def _create_terms(table: str, key: sa.Column[object], referred: str) -> None:
    op.create_table(
        f"{table}_term",
        sa.Column("kind", sqlmodel.sql.sqltypes.AutoString(length=16), nullable=False),
        sa.Column("value", _sorted(256), nullable=False),
        key,
        sa.ForeignKeyConstraint([key.name], [f"{table}.{referred}"]),
        sa.PrimaryKeyConstraint("kind", "value", key.name),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{table}_term_{key.name}", f"{table}_term", [key.name])


def _sorted(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _fill_terms() -> None:
    """Make what was there before as easy to find as what comes after."""
    bind = op.get_bind()
    adapters = bind.execute(sa.text("SELECT name, description FROM adapter")).all()
    for name, description in adapters:
        _insert("adapter", "adapter_name", name, _words(name, description))
    versions = bind.execute(
        sa.text(
            "SELECT version.id, adapter.name, version.target_modules FROM version"
            " JOIN adapter ON adapter.id = version.adapter_id"
        )
    ).all()
    for version_id, name, modules in versions:
        listed = json.loads(modules) if isinstance(modules, str) else modules
        terms = [("target_module", module) for module in sorted(set(listed))]
        _insert("version", "version_id", version_id, [*terms, *_words(name)])


def _words(*texts: str | None) -> Iterator[tuple[str, str]]:
    joined = unicodedata.normalize("NFKC", " ".join(filter(None, texts)))
    text = unicodedata.normalize("NFKC", joined.casefold())
    yield from (("word", word[:256]) for word in sorted(set(re.findall(r"[^\W_]+", text))))


def _insert(
    table: str,
    column: str,
    key: object,
    terms: Sequence[tuple[str, str]] | Iterator[tuple[str, str]],
) -> None:
    statement = sa.text(
        f"INSERT INTO {table}_term (kind, value, {column}) VALUES (:kind, :value, :key)"
    )
    rows = [{"kind": kind, "value": value, "key": key} for kind, value in terms]
    if rows:
        op.get_bind().execute(statement, rows)
