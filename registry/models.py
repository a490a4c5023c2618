"""The tables. Versions never change but in state; events are only ever added."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, DateTime, Index, UniqueConstraint
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
    VERSION_REGISTERED = "version.registered"
    ALIAS_MOVED = "alias.moved"
    INGEST_FAILED = "ingest.failed"
    INGEST_CANCELLED = "ingest.cancelled"


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


def now() -> datetime:
    return datetime.now(UTC)


def _one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class Adapter(SQLModel, table=True):
    """A name under which versions are published."""

    __tablename__ = "adapter"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=64, unique=True, index=True)
    description: str | None = Field(default=None, max_length=4096)
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class Version(SQLModel, table=True):
    """One immutable set of weights. Its row id is the engine's integer id and is never reused."""

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number", name="uq_version_number"),
        UniqueConstraint("adapter_id", "digest", name="uq_version_digest"),
        CheckConstraint(_one_of("state", VersionState), name="ck_version_state"),
        CheckConstraint("number > 0", name="ck_version_number"),
        CheckConstraint("rank > 0", name="ck_version_rank"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    number: int
    digest: str = Field(max_length=64, index=True)
    state: str = Field(default=VersionState.READY, max_length=16)
    state_reason: str | None = Field(default=None, max_length=1024)
    rank: int
    alpha: float
    target_modules: list[str] = Field(sa_column=Column(JSON, nullable=False))
    dtype: str = Field(max_length=16)
    base_model: str | None = Field(default=None, max_length=1024)
    size_bytes: int = Field(sa_type=BigInteger)
    source: str = Field(max_length=4096)
    revision: str | None = Field(default=None, max_length=256)
    peft_config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)


class Alias(SQLModel, table=True):
    """A name for one version of an adapter, moved by compare-and-set."""

    __tablename__ = "alias"

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    name: str = Field(max_length=64, primary_key=True)
    version_id: int = Field(foreign_key="version.id", index=True)
    moved_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class Event(SQLModel, table=True):
    """Who changed what, when and why; written with the change itself."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_adapter", "adapter_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    actor: str = Field(max_length=256)
    kind: str = Field(max_length=32)
    adapter_id: int = Field(foreign_key="adapter.id")
    alias: str | None = Field(default=None, max_length=64)
    from_version: int | None = None
    to_version: int | None = None
    reason: str | None = Field(default=None, max_length=1024)


def row_id(row: Adapter | Version | Event) -> int:
    """The id of a row that has been written."""
    if row.id is None:
        raise ValueError(f"{type(row).__name__} has not been written yet")
    return row.id
