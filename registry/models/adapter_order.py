"""Table of the adapters' order: what the table of adapters is sorted by, with an index for each."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string

PREFIX = 200
"""Characters of a text that count for the order: an index takes no whole description."""

SORTED = (
    *("created_at", "owner", "description", "tags", "aliases", "versions"),
    *("version", "state", "rank", "size_bytes"),
)


class AdapterOrder(Table, table=True):
    """A row for each adapter, which triggers of the database keep.

    `version` to `size_bytes` are the default version's. `aliases`: their names, joined. `tags`: as
    the database has their JSON, without brackets; the adapter's, or else its default version's.
    """

    __tablename__ = "adapter_order"
    # PostgreSQL skips the rows before a page within the index: SQLite's have the id anyway
    __table_args__ = tuple(
        Index(f"ix_adapter_order_{each}", each, "name", postgresql_include=["adapter_id"])
        for each in SORTED
    )

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    name: str = Field(sa_column=Column(bytewise_string(64), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    owner: str | None = Field(sa_column=Column(bytewise_string(256)))
    description: str | None = Field(sa_column=Column(bytewise_string(PREFIX)))
    tags: str | None = Field(sa_column=Column(bytewise_string(PREFIX)))
    aliases: str | None = Field(sa_column=Column(bytewise_string(PREFIX)))
    versions: int
    version: int | None
    state: str | None = Field(sa_column=Column(bytewise_string(16)))
    rank: int | None
    size_bytes: int | None = Field(sa_type=BigInteger)
