"""Schemas of webhooks. Only the responses that create a secret contain it."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from registry.catalog.field_types import Body, Prose, Text
from registry.models import EventKind, row_id
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery
from registry.references import ADAPTER_NAME_PATTERN, MAX_NAME
from registry.webhooks.service import WebhookStatus

Url = Annotated[Text, Field(max_length=2048, examples=["https://example.com/hooks/adaptry"])]
Description = Annotated[Prose | None, Field(max_length=1024)]
Kinds = Annotated[tuple[EventKind, ...], Field(max_length=64, description="Empty: all.")]
AdapterName = Annotated[str, Field(pattern=f"^{ADAPTER_NAME_PATTERN}$", max_length=MAX_NAME)]
Adapters = Annotated[tuple[AdapterName, ...], Field(max_length=1000, description="Empty: all.")]


class WebhookCreate(Body):
    """Endpoint, and the events to send it."""

    url: Url
    description: Description = None
    kinds: Kinds = ()
    adapters: Adapters = ()


class WebhookChange(Body):
    """Omitted fields stay as they are."""

    url: Url = ""
    description: Description = None
    kinds: Kinds = ()
    adapters: Adapters = ()
    enabled: Annotated[bool, Field(strict=True)] = True


class SecretRotate(Body):
    keep_hours: Annotated[
        float,
        Field(strict=True, ge=0, le=24 * 30, description="How long to sign with the old one too."),
    ] = 24.0


class WebhookRead(BaseModel):
    """An endpoint. `failures`: consecutive failed attempts; `pending`: undelivered messages."""

    id: int
    url: str
    description: str | None
    kinds: list[str]
    adapters: list[str]
    enabled: bool
    disabled_reason: str | None
    failures: int
    paused_until: datetime | None
    pending: int
    created_at: datetime
    created_by: str


class WebhookCreated(WebhookRead):
    """`secret` is never shown again."""

    secret: str


class SecretRotated(BaseModel):
    """`secret` is never shown again."""

    secret: str
    previous_valid_until: datetime


class WebhookPage(BaseModel):
    items: list[WebhookRead]
    next_page_token: str | None


class DeliveryRead(BaseModel):
    """One message. `event_id` is null for a test."""

    id: int
    message_id: str
    kind: str
    event_id: int | None
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    status_code: int | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryPage(BaseModel):
    items: list[DeliveryRead]
    next_page_token: str | None


def webhook_read(status: WebhookStatus) -> WebhookRead:
    return WebhookRead(**_fields(status.webhook), pending=status.pending)


def webhook_created(webhook: Webhook) -> WebhookCreated:
    return WebhookCreated(**_fields(webhook), pending=0, secret=webhook.secret)


def _fields(webhook: Webhook) -> dict[str, object]:
    return webhook.model_dump(include=set(WebhookRead.model_fields) - {"pending"})


def delivery_read(delivery: WebhookDelivery) -> DeliveryRead:
    state = DeliveryState(delivery.state)
    return DeliveryRead(
        id=row_id(delivery),
        message_id=delivery.message_id,
        kind=delivery.kind,
        event_id=delivery.event_id,
        state=state,
        attempts=delivery.attempts,
        next_attempt_at=delivery.next_attempt_at if state == DeliveryState.PENDING else None,
        status_code=delivery.status_code,
        error=delivery.error,
        created_at=delivery.created_at,
        finished_at=delivery.finished_at,
    )
