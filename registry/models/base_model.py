"""Tables of base models and of the servers that serve them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Column, UniqueConstraint
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, now


class KnownBase(Table, table=True):
    """A base model that versions were checked against. Its name alone does not identify it.

    `digest` covers what decides whether an adapter fits; `facts` is that, to be read.
    """

    __tablename__ = "base_model"
    __table_args__ = (
        UniqueConstraint("name", "digest", name="uq_base_model"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=256)
    digest: str = Field(max_length=64)
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class BaseLink(Table, table=True):
    """Two base models declared compatible by an operator: each serves the other's versions."""

    __tablename__ = "base_model_link"
    __table_args__ = (CheckConstraint("first_id < second_id", name="ck_base_model_link"),)

    first_id: int = Field(foreign_key="base_model.id", primary_key=True)
    second_id: int = Field(foreign_key="base_model.id", primary_key=True)
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)


class Server(Table, table=True):
    """A server that has started on this database, under the name that it keeps over restarts."""

    __tablename__ = "server"

    name: str = Field(primary_key=True, max_length=256)
    base_id: int | None = Field(default=None, foreign_key="base_model.id")
    started_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
