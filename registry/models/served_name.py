"""Table of served names: what clients write as `model`, besides references."""

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string, now


class ServedName(Table, table=True):
    """Another name of an adapter, or of one of its aliases or versions.

    `owner` is the tenant whose adapter it is, empty for the platform: its names are unique. With
    neither alias nor version it means what the adapter's own name means.
    """

    __tablename__ = "served_name"

    owner: str = Field(sa_column=Column(bytewise_string(32), primary_key=True))
    name: str = Field(sa_column=Column(bytewise_string(256), primary_key=True))
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    alias: str | None = Field(default=None, max_length=64)
    version: int | None = None
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)
