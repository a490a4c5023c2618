"""Models of the responses of the routes of webhooks.

Written by `make reference` from docs/openapi.json.
"""

from typing import Literal

from pydantic import AwareDatetime
from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel

DeliveryState = TypeAliasType("DeliveryState", Literal["pending", "delivered", "failed"])


class DeliveryRead(ResponseModel):
    """One message. `event_id` is null for a test."""

    id: int
    message_id: str
    kind: str
    event_id: int | None
    state: DeliveryState
    attempts: int
    next_attempt_at: AwareDatetime | None
    status_code: int | None
    error: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class DeliveryPage(ResponseModel):
    items: list[DeliveryRead]
    next_page_token: str | None


class SecretRotated(ResponseModel):
    """`secret` is never shown again."""

    secret: str
    previous_valid_until: AwareDatetime


class WebhookCreated(ResponseModel):
    """`secret` is never shown again."""

    id: int
    url: str
    description: str | None
    kinds: list[str]
    adapters: list[str]
    enabled: bool
    disabled_reason: str | None
    failures: int
    paused_until: AwareDatetime | None
    pending: int
    created_at: AwareDatetime
    created_by: str
    secret: str


class WebhookRead(ResponseModel):
    """An endpoint. `failures`: consecutive failed attempts; `pending`: undelivered messages."""

    id: int
    url: str
    description: str | None
    kinds: list[str]
    adapters: list[str]
    enabled: bool
    disabled_reason: str | None
    failures: int
    paused_until: AwareDatetime | None
    pending: int
    created_at: AwareDatetime
    created_by: str


class WebhookPage(ResponseModel):
    items: list[WebhookRead]
    next_page_token: str | None
