"""Schemas of API keys. Only the responses that create or rotate a key contain it."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from registry.auth.rate_limits import RATE_FIELDS, RateLimits
from registry.auth.scopes import Scope
from registry.catalog.field_types import Body, Timestamp
from registry.models.api_key import ApiKey
from registry.references import ADAPTER_NAME_PATTERN, MAX_NAME, tenant_of

KeyName = Annotated[
    str,
    Field(
        pattern=f"^{ADAPTER_NAME_PATTERN}$",
        max_length=MAX_NAME,
        examples=["ci", "acme~app"],
        description="A tenant's key begins with its name and a tilde.",
    ),
]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]


Count = Annotated[int | None, Field(strict=True, ge=1, le=2**31 - 1, description="Null: no limit.")]
Total = Annotated[int | None, Field(strict=True, ge=1, le=2**63 - 1, description="Null: no limit.")]


class KeyChange(Body):
    """Limits of a key. Omitted fields stay as they are."""

    max_requests_per_minute: Count = None
    max_tokens_per_minute: Total = None
    max_bytes_per_minute: Total = None


class KeyCreate(KeyChange):
    """Name, scopes and limits of a new key."""

    name: KeyName
    scopes: Scopes
    expires_at: Annotated[Timestamp | None, Field(description="Null: never.")] = None

    def limits(self) -> RateLimits:
        return RateLimits(**{field: getattr(self, field) for field in RATE_FIELDS})


class KeyRotate(Body):
    keep_hours: Annotated[
        float,
        Field(strict=True, ge=0, le=24 * 30, description="How long the old one stays valid."),
    ] = 24.0


class KeyRead(BaseModel):
    """`prefix` begins every text of this key; `last_used_at` may be a minute late."""

    name: str
    prefix: str
    tenant: str | None
    scopes: list[Scope]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    previous_valid_until: datetime | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None


class KeyCreated(KeyRead):
    """`key` is never shown again."""

    key: str


class KeyPage(BaseModel):
    items: list[KeyRead]
    next_page_token: str | None


def key_read(key: ApiKey) -> KeyRead:
    return KeyRead(**_fields(key))


def key_created(text: str, key: ApiKey) -> KeyCreated:
    return KeyCreated(**_fields(key), key=text)


def _fields(key: ApiKey) -> dict[str, object]:
    same = {"name", "scopes", "created_at", "created_by", "expires_at", "revoked_at"}
    return {
        **key.model_dump(include=same | {"last_used_at", *RATE_FIELDS}),
        "tenant": tenant_of(key.name),
        "prefix": f"adp_{key.public_id}_",
        "previous_valid_until": key.previous_until,
    }
