"""The tables. A version changes in state and in what people say of it; events are only added."""

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class VersionState(StrEnum):
    """`pending → ready → (deprecated) → retired → purged`, or refused on the way."""

    PENDING = "pending"
    READY = "ready"
    DEPRECATED = "deprecated"
    RETIRED = "retired"
    PURGED = "purged"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


SERVABLE = frozenset({VersionState.READY, VersionState.DEPRECATED})


class EventKind(StrEnum):
    ADAPTER_IMPORTED = "adapter.imported"
    ADAPTER_UPDATED = "adapter.updated"
    VERSION_REGISTERED = "version.registered"
    VERSION_UPDATED = "version.updated"
    VERSION_DEPRECATED = "version.deprecated"
    VERSION_RESTORED = "version.restored"
    VERSION_RETIRED = "version.retired"
    VERSION_QUARANTINED = "version.quarantined"
    VERSION_PURGED = "version.purged"
    ALIAS_MOVED = "alias.moved"
    INGEST_FAILED = "ingest.failed"
    INGEST_CANCELLED = "ingest.cancelled"
    ALIAS_SPLIT = "alias.split"
    ALIAS_DELETED = "alias.deleted"
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_RETRIED = "webhook.retried"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    CACHE_PINNED = "cache.pinned"
    CACHE_UNPINNED = "cache.unpinned"
    CACHE_EVICTED = "cache.evicted"
    STORE_COLLECTED = "store.collected"
    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    TENANT_DELETED = "tenant.deleted"
    GRANT_ADDED = "grant.added"
    GRANT_REMOVED = "grant.removed"


class UtcDateTime(TypeDecorator[datetime]):
    """Aware in Python, UTC in the database: SQLite keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # for tables that only ever grow
MAX_BIG_ID = 2**63 - 1


def sorted_text(length: int) -> String:
    """Ordered by its bytes, as SQLite does: PostgreSQL would follow the language of its locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def now() -> datetime:
    return datetime.now(UTC)


def _json(default: str) -> Column[Any]:
    return Column(JSON, nullable=False, server_default=default)


def _one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class Adapter(SQLModel, table=True):
    """A name under which versions are published."""

    __tablename__ = "adapter"
    __table_args__ = (
        Index("ix_adapter_owner", "owner", "name"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_column=Column(sorted_text(64), nullable=False, unique=True, index=True))
    description: str | None = Field(default=None, max_length=4096)
    owner: str | None = Field(default=None, max_length=256)
    tags: list[str] = Field(default_factory=list, sa_column=_json("[]"))
    user_metadata: dict[str, Any] = Field(default_factory=dict, sa_column=_json("{}"))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class Version(SQLModel, table=True):
    """One immutable set of weights. Its row id is the engine's integer id and is never reused.

    Triggers of the database refuse changes of state that are not in
    `registry.lifecycle.transitions.TRANSITIONS`, and any change of number or digest.
    """

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number", name="uq_version_number"),
        UniqueConstraint("adapter_id", "digest", name="uq_version_digest"),
        CheckConstraint(_one_of("state", VersionState), name="ck_version_state"),
        CheckConstraint("number > 0", name="ck_version_number"),
        CheckConstraint("rank > 0", name="ck_version_rank"),
        Index("ix_version_state", "state", "id"),
        Index("ix_version_rank", "rank", "id"),
        Index("ix_version_base_model", "base_model", "id"),
        Index("ix_version_files", "digest", "state", "size_bytes"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    number: int
    digest: str = Field(max_length=64)
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
    created_by: str = Field(max_length=256)
    description: str | None = Field(default=None, max_length=4096)
    tags: list[str] = Field(default_factory=list, sa_column=_json("[]"))
    user_metadata: dict[str, Any] = Field(default_factory=dict, sa_column=_json("{}"))
    parent_id: int | None = Field(default=None, foreign_key="version.id", index=True)
    training_run: str | None = Field(default=None, max_length=1024)
    dataset: str | None = Field(default=None, max_length=1024)
    updated_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class Alias(SQLModel, table=True):
    """A name for an adapter's versions, moved by compare-and-set.

    `version_id` is the version with the largest weight of `AliasHistory` at `revision`.
    """

    __tablename__ = "alias"

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    name: str = Field(sa_column=Column(sorted_text(64), primary_key=True))
    version_id: int = Field(foreign_key="version.id", index=True)
    revision: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class AliasHistory(SQLModel, table=True):
    """Where an alias pointed, and from when to when. One row for each version it was split over.

    `revision` counts the states of an alias, also across its deletion. The state at a time is
    that with `valid_from <= time < valid_to`; the last one has no `valid_to`.
    """

    __tablename__ = "alias_history"
    __table_args__ = (
        Index("ix_alias_history_time", "adapter_id", "alias", "valid_from"),
        Index("ix_alias_history_version", "version_id", "valid_to"),
        CheckConstraint("weight > 0", name="ck_alias_history_weight"),
        CheckConstraint("valid_to > valid_from", name="ck_alias_history_time"),
    )

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    alias: str = Field(sa_column=Column(sorted_text(64), primary_key=True))
    revision: int = Field(primary_key=True)
    version_id: int = Field(foreign_key="version.id", primary_key=True)
    weight: int
    valid_from: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    valid_to: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    actor: str = Field(max_length=256)
    reason: str | None = Field(default=None, max_length=1024)


def new_uid() -> str:
    """128 random bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Event(SQLModel, table=True):
    """Who changed what, when and why; written with the change itself. Triggers keep it as it is.

    `uid` is the same wherever the event is told: in webhooks, and in a registry that imported it.
    """

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("uid", name="uq_event_uid"),
        Index("ix_event_adapter", "adapter_id", "id"),
        Index("ix_event_kind", "kind", "id"),
        Index("ix_event_at", "at"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    uid: str = Field(default_factory=new_uid, max_length=32)
    at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    actor: str = Field(max_length=256)
    address: str | None = Field(default=None, max_length=64)  # None: nobody asked for it
    kind: str = Field(max_length=32)
    adapter_id: int | None = Field(default=None, foreign_key="adapter.id")
    alias: str | None = Field(default=None, max_length=64)
    from_version: int | None = None
    to_version: int | None = None
    reason: str | None = Field(default=None, max_length=1024)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    imported: bool = False  # it happened in another registry, whose history came with an import


class _Row(Protocol):
    id: int | None


def row_id(row: _Row) -> int:
    """The id of a row that has been written."""
    if row.id is None:
        raise ValueError(f"{type(row).__name__} has not been written yet")
    return row.id
