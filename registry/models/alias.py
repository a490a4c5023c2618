"""Tables of aliases and the history of their states."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, Index
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string


class Alias(Table, table=True):
    """A name for an adapter's versions, moved by compare-and-set.

    `version_id` is the version with the largest weight of `AliasHistory` at `revision`.
    """

    __tablename__ = "alias"

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    name: str = Field(sa_column=Column(bytewise_string(64), primary_key=True))
    version_id: int = Field(foreign_key="version.id", index=True)
    revision: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class AliasHistory(Table, table=True):
    """A past or current state of an alias. One row for each version it was split over.

    `revision` counts the states of an alias, even across its deletion. The state at a time is
    the one with `valid_from <= time < valid_to`; the current one has no `valid_to`.
    """

    __tablename__ = "alias_history"
    __table_args__ = (
        Index("ix_alias_history_time", "adapter_id", "alias", "valid_from"),
        Index("ix_alias_history_version", "version_id", "valid_to"),
        CheckConstraint("weight > 0", name="ck_alias_history_weight"),
        CheckConstraint("valid_to > valid_from", name="ck_alias_history_time"),
    )

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    alias: str = Field(sa_column=Column(bytewise_string(64), primary_key=True))
    revision: int = Field(primary_key=True)
    version_id: int = Field(foreign_key="version.id", primary_key=True)
    weight: int
    valid_from: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    valid_to: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    actor: str = Field(max_length=256)
    reason: str | None = Field(default=None, max_length=1024)
