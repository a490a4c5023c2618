"""Models of the responses of the routes of tenants.

Written by `make reference` from docs/openapi.json.
"""

from pydantic import AwareDatetime

from adaptry.client.models.response import ResponseModel


class GrantRead(ResponseModel):
    """This tenant may use the adapter."""

    tenant: str
    granted_at: AwareDatetime
    granted_by: str


class GrantList(ResponseModel):
    items: list[GrantRead]


class TenantRead(ResponseModel):
    """A tenant. Its adapters are named `name~…`."""

    name: str
    created_at: AwareDatetime
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


class TenantPage(ResponseModel):
    items: list[TenantRead]
    next_page_token: str | None


class TenantUsage(ResponseModel):
    """
    Usage of its limits: stored bytes and registrations over all servers on this database, the
    rest in the answering server. `slots`: adapters that requests hold or await.
    """

    requests_in_flight: int
    slots: int
    host_bytes: int
    pins: int
    storage_bytes: int
    registrations_in_last_hour: int


class TenantUsageRead(ResponseModel):
    """A tenant, its limits and its usage."""

    name: str
    created_at: AwareDatetime
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
    usage: TenantUsage


class TenantUsagePage(ResponseModel):
    items: list[TenantUsageRead]
    next_page_token: str | None
