"""Tables of adapters, their immutable versions, and the further numbers of these."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Text,
    UniqueConstraint,
    false,
)
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string, json_column, now, one_of


class VersionState(StrEnum):
    """`pending → ready → (deprecated) → retired → purged`, or rejected or quarantined."""

    PENDING = "pending"
    READY = "ready"
    DEPRECATED = "deprecated"
    RETIRED = "retired"
    PURGED = "purged"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


SERVABLE = frozenset({VersionState.READY, VersionState.DEPRECATED})


def _switch() -> Column[Any]:
    return Column(Boolean, nullable=False, server_default=false())


class Adapter(Table, table=True):
    """A name under which versions are published.

    `serve_chat_template`, `serve_sampling_defaults`: requests of its versions get those that the
    version was trained with, not the base model's.
    """

    __tablename__ = "adapter"
    __table_args__ = (
        Index("ix_adapter_owner", "owner", "name"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(
        sa_column=Column(bytewise_string(64), nullable=False, unique=True, index=True)
    )
    description: str | None = Field(default=None, max_length=4096)
    owner: str | None = Field(default=None, max_length=256)
    tags: list[str] = Field(default_factory=list, sa_column=json_column("[]"))
    user_metadata: dict[str, Any] = Field(default_factory=dict, sa_column=json_column("{}"))
    serve_chat_template: bool = Field(default=False, sa_column=_switch())
    serve_sampling_defaults: bool = Field(default=False, sa_column=_switch())
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class Version(Table, table=True):
    """One immutable set of weights. Its row id is the engine's integer id and is never reused.

    Database triggers reject state changes that are not in
    `registry.lifecycle.transitions.TRANSITIONS`, and any change of number or digest.

    `base_id`: the base model that it was checked against, null for a version from before there
    were several; `base_model` is what its configuration calls the one it was trained on.
    """

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number", name="uq_version_number"),
        UniqueConstraint("adapter_id", "digest", name="uq_version_digest"),
        CheckConstraint(one_of("state", VersionState), name="ck_version_state"),
        CheckConstraint("number > 0", name="ck_version_number"),
        CheckConstraint("rank > 0", name="ck_version_rank"),
        Index("ix_version_state", "state", "id"),
        Index("ix_version_rank", "rank", "id"),
        Index("ix_version_base_model", "base_model", "id"),
        Index("ix_version_base_id", "base_id", "id"),
        Index("ix_version_content", "adapter_id", "content_digest"),
        Index("ix_version_files", "digest", "state", "size_bytes"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    number: int
    digest: str = Field(max_length=64)
    content_digest: str | None = Field(default=None, max_length=64)
    state: str = Field(default=VersionState.READY, max_length=16)
    state_reason: str | None = Field(default=None, max_length=1024)
    state_code: str | None = Field(default=None, max_length=64)
    state_changed_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    rank: int
    alpha: float
    target_modules: list[str] = Field(sa_column=Column(JSON, nullable=False))
    dtype: str = Field(max_length=16)
    base_model: str | None = Field(default=None, max_length=1024)
    size_bytes: int = Field(sa_type=BigInteger)
    source: str = Field(max_length=4096)
    revision: str | None = Field(default=None, max_length=256)
    peft_config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    inspection: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True))
    )
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    chat_template: str | None = Field(default=None, sa_column=Column(Text))
    sampling_defaults: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True))
    )
    created_by: str = Field(max_length=256)
    description: str | None = Field(default=None, max_length=4096)
    tags: list[str] = Field(default_factory=list, sa_column=json_column("[]"))
    user_metadata: dict[str, Any] = Field(default_factory=dict, sa_column=json_column("{}"))
    parent_id: int | None = Field(default=None, foreign_key="version.id", index=True)
    training_run: str | None = Field(default=None, max_length=1024)
    dataset: str | None = Field(default=None, max_length=1024)
    base_id: int | None = Field(default=None, foreign_key="base_model.id")
    updated_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class FurtherNumber(Table, table=True):
    """Another number that means a version: another registry's, for the same content.

    No version of the adapter has this number, and none gets it. The transaction that adds one holds
    the adapter's lock, as one that numbers a version does.
    """

    __tablename__ = "further_number"
    __table_args__ = (CheckConstraint("number > 0", name="ck_further_number"),)

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    number: int = Field(primary_key=True)
    version_id: int = Field(foreign_key="version.id", index=True)
