"""Table of the event log. Rows are only inserted."""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint
from sqlmodel import Field

from registry.models.base import BIG_ID, Table, UtcDateTime, now


class EventKind(StrEnum):
    ADAPTER_IMPORTED = "adapter.imported"
    ADAPTER_UPDATED = "adapter.updated"
    VERSION_REGISTERED = "version.registered"
    VERSION_UPDATED = "version.updated"
    VERSION_DEPRECATED = "version.deprecated"
    VERSION_RESTORED = "version.restored"
    VERSION_RETIRED = "version.retired"
    VERSION_QUARANTINED = "version.quarantined"
    VERSION_RECHECKED = "version.rechecked"
    VERSION_PURGED = "version.purged"
    ALIAS_MOVED = "alias.moved"
    INGEST_FAILED = "ingest.failed"
    INGEST_CANCELLED = "ingest.cancelled"
    ALIAS_SPLIT = "alias.split"
    ALIAS_DELETED = "alias.deleted"
    NAME_SET = "name.set"
    NAME_REMOVED = "name.removed"
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_RETRIED = "webhook.retried"
    KEY_CREATED = "key.created"
    KEY_CHANGED = "key.changed"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    CACHE_PINNED = "cache.pinned"
    CACHE_UNPINNED = "cache.unpinned"
    CACHE_EVICTED = "cache.evicted"
    SERVER_FORGOTTEN = "server.forgotten"
    BASE_LINKED = "base.linked"
    BASE_UNLINKED = "base.unlinked"
    STORE_COLLECTED = "store.collected"
    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    TENANT_DELETED = "tenant.deleted"
    GRANT_ADDED = "grant.added"
    GRANT_REMOVED = "grant.removed"


def new_uid() -> str:
    """128 random bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Event(Table, table=True):
    """Who changed what, when and why, written with the change itself. Triggers forbid edits.

    `uid` stays the same in webhooks, and in a registry that imports the event.
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
    address: str | None = Field(default=None, max_length=64)  # None: no request caused it
    kind: str = Field(max_length=32)
    adapter_id: int | None = Field(default=None, foreign_key="adapter.id")
    alias: str | None = Field(default=None, max_length=64)
    from_version: int | None = None
    to_version: int | None = None
    reason: str | None = Field(default=None, max_length=1024)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    imported: bool = False  # it happened in another registry and came with an import
