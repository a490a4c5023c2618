"""Schemas of tenants and grants."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from registry.catalog.field_types import Body
from registry.models.tenant import AdapterGrant, Tenant
from registry.quotas.usage import LiveUsage, StoredUsage
from registry.references import TENANT_NAME_PATTERN

TenantName = Annotated[str, Field(pattern=f"^{TENANT_NAME_PATTERN}$", examples=["acme"])]
Count = Annotated[int | None, Field(strict=True, ge=0, le=2**31 - 1, description="Null: no limit.")]
Bytes = Annotated[int | None, Field(strict=True, ge=0, le=2**63 - 1, description="Null: no limit.")]


class TenantChange(Body):
    """Omitted fields stay as they are."""

    max_requests_in_flight: Count = None
    max_slots: Count = None
    max_host_bytes: Bytes = None
    max_pins: Count = None
    max_storage_bytes: Bytes = None
    max_registrations_per_hour: Count = None
    max_requests_per_minute: Count = None
    max_tokens_per_minute: Bytes = None
    max_bytes_per_minute: Bytes = None


class TenantCreate(TenantChange):
    """A namespace and its limits."""

    name: TenantName


class TenantRead(BaseModel):
    """A tenant. Its adapters are named `name~…`."""

    name: str
    created_at: datetime
    created_by: str
    max_requests_in_flight: int | None
    max_slots: int | None
    max_host_bytes: int | None
    max_pins: int | None
    max_storage_bytes: int | None
    max_registrations_per_hour: int | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None


class TenantUsage(BaseModel):
    """Usage of its limits: stored bytes and registrations over all servers on this database, the
    rest in the answering server. `slots`: adapters that requests hold or await.
    """

    requests_in_flight: int
    slots: int
    host_bytes: int
    pins: int
    storage_bytes: int
    registrations_in_last_hour: int


class TenantUsageRead(TenantRead):
    """A tenant, its limits and its usage."""

    usage: TenantUsage


class TenantUsagePage(BaseModel):
    items: list[TenantUsageRead]
    next_page_token: str | None


class TenantPage(BaseModel):
    items: list[TenantRead]
    next_page_token: str | None


class GrantRead(BaseModel):
    """This tenant may use the adapter."""

    tenant: str
    granted_at: datetime
    granted_by: str


class GrantList(BaseModel):
    items: list[GrantRead]


def tenant_read(tenant: Tenant) -> TenantRead:
    return TenantRead.model_validate(tenant.model_dump())


def tenant_usage_read(tenant: Tenant, live: LiveUsage, stored: StoredUsage) -> TenantUsageRead:
    usage = TenantUsage(
        **asdict(live),
        storage_bytes=stored.storage_bytes,
        registrations_in_last_hour=stored.registrations,
    )
    return TenantUsageRead(**tenant_read(tenant).model_dump(), usage=usage)


def grant_read(grant: AdapterGrant) -> GrantRead:
    return GrantRead.model_validate(grant.model_dump())
