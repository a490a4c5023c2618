"""Models of the responses of the routes of keys.

Written by `make reference` from docs/openapi.json.
"""

from typing import Literal

from pydantic import AwareDatetime, Field
from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel

Scope = TypeAliasType("Scope", Literal["infer", "publish", "operate", "admin"])


class CallerRead(ResponseModel):
    """`prefix` begins every text of the key. Where no keys are required there is none."""

    name: str
    tenant: str | None
    scopes: list[Scope]
    prefix: str | None
    expires_at: AwareDatetime | None


class KeyCreated(ResponseModel):
    """`key` is never shown again."""

    name: str
    prefix: str
    tenant: str | None
    scopes: list[Scope]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_valid_until: AwareDatetime | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None
    key: str


class KeyRead(ResponseModel):
    """`prefix` begins every text of this key; `last_used_at` may be a minute late."""

    name: str
    prefix: str
    tenant: str | None
    scopes: list[Scope]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_valid_until: AwareDatetime | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None


class KeyPage(ResponseModel):
    items: list[KeyRead]
    next_page_token: str | None


class UsedRateRead(ResponseModel):
    """`used` may exceed `limit`: tokens are known at the end only."""

    limit: int
    used: int = Field(..., description="In the last minute.")
    remaining: int
    reset_seconds: float = Field(
        ..., description="Until all of it is free again, without further requests."
    )


class RateUsageRead(ResponseModel):
    """What a key or a tenant has used of its limits per minute; null: no limit."""

    name: str
    requests: UsedRateRead | None
    tokens: UsedRateRead | None
    bytes: UsedRateRead | None


class RateUsagePage(ResponseModel):
    items: list[RateUsageRead]
    next_page_token: str | None
