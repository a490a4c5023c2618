"""Tables of webhooks and their outbox."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
)
from sqlmodel import Field

from registry.models.base import BIG_ID, Table, UtcDateTime, now


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Table, table=True):
    """A webhook endpoint. Events up to `last_event_id` are in its outbox, or did not match it."""

    __tablename__ = "webhook"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    url: str = Field(max_length=2048)
    description: str | None = Field(default=None, max_length=1024)
    kinds: list[str] = Field(sa_column=Column(JSON, nullable=False))  # empty: all
    adapters: list[str] = Field(sa_column=Column(JSON, nullable=False))  # empty: all
    secret: str = Field(max_length=128)
    previous_secret: str | None = Field(default=None, max_length=128)
    previous_secret_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    enabled: bool = True
    disabled_reason: str | None = Field(default=None, max_length=1024)
    failures: int = 0  # attempts in a row that failed
    paused_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    last_event_id: int = Field(default=0, sa_type=BigInteger)
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)


class WebhookDelivery(Table, table=True):
    """One message to one endpoint, in the outbox until it is delivered or has failed.

    A server claims a delivery for a limited time before it sends it. If it dies, another server
    sends it after that.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id", name="uq_webhook_delivery_event"),
        Index("ix_webhook_delivery_due", "webhook_id", "state", "next_attempt_at"),
        CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name="ck_webhook_delivery_state"
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    webhook_id: int = Field(
        sa_column=Column(Integer, ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False)
    )
    event_id: int | None = Field(
        default=None, foreign_key="event.id", sa_type=BIG_ID
    )  # None: a test
    message_id: str = Field(max_length=64)
    kind: str = Field(max_length=32)
    state: str = Field(default=DeliveryState.PENDING, max_length=16)
    attempts: int = 0
    next_attempt_at: datetime = Field(
        default_factory=now, sa_column=Column(UtcDateTime, nullable=False)
    )
    claimed_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    status_code: int | None = None  # of the last attempt, if there was a response
    error: str | None = Field(default=None, max_length=1024)
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    finished_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
