"""`client.tenants`: namespaces of adapters, their limits, and who may use what of another's."""

from typing import TypeVar

from adaptry.client.models import GrantRead, TenantRead, TenantUsageRead
from adaptry.client.transport.operations import Group, operation, pages
from adaptry.client.transport.requests import UNSET, Given, Unset, changed

S_co = TypeVar("S_co", covariant=True)

Limit = int | Unset | None


class Tenants(Group[S_co]):
    """Make tenants, limit them, and grant adapters. A limit of None is none."""

    @pages("/api/v1/tenants", TenantRead)
    def list(self, *, page_size: int = 100) -> Given:
        """All tenants, by name."""
        return Given(query={"limit": page_size})

    @operation("GET", "/api/v1/tenants/{tenant}", TenantUsageRead)
    def get(self, tenant: str) -> Given:
        """One tenant, its limits, and what it uses."""
        return Given({"tenant": tenant})

    @operation("POST", "/api/v1/tenants", TenantRead)
    def create(
        self,
        name: str,
        *,
        max_requests_in_flight: Limit = UNSET,
        max_slots: Limit = UNSET,
        max_host_bytes: Limit = UNSET,
        max_pins: Limit = UNSET,
        max_storage_bytes: Limit = UNSET,
        max_registrations_per_hour: Limit = UNSET,
    ) -> Given:
        """Make a namespace: its adapters and keys are named `name~…`."""
        body = changed(
            name=name,
            max_requests_in_flight=max_requests_in_flight,
            max_slots=max_slots,
            max_host_bytes=max_host_bytes,
            max_pins=max_pins,
            max_storage_bytes=max_storage_bytes,
            max_registrations_per_hour=max_registrations_per_hour,
        )
        return Given(body=body)

    @operation("PATCH", "/api/v1/tenants/{tenant}", TenantRead)
    def change(
        self,
        tenant: str,
        *,
        max_requests_in_flight: Limit = UNSET,
        max_slots: Limit = UNSET,
        max_host_bytes: Limit = UNSET,
        max_pins: Limit = UNSET,
        max_storage_bytes: Limit = UNSET,
        max_registrations_per_hour: Limit = UNSET,
    ) -> Given:
        """Change the limits that are named."""
        body = changed(
            max_requests_in_flight=max_requests_in_flight,
            max_slots=max_slots,
            max_host_bytes=max_host_bytes,
            max_pins=max_pins,
            max_storage_bytes=max_storage_bytes,
            max_registrations_per_hour=max_registrations_per_hour,
        )
        return Given({"tenant": tenant}, body=body)

    @operation("DELETE", "/api/v1/tenants/{tenant}", type(None))
    def delete(self, tenant: str) -> Given:
        """Remove a tenant that has neither adapters nor valid keys."""
        return Given({"tenant": tenant})

    # ---- grants --------------------------------------------------------------------------

    @pages("/api/v1/adapters/{name}/grants", GrantRead)
    def grants(self, adapter: str) -> Given:
        """Which tenants may use an adapter besides its own."""
        return Given({"name": adapter})

    @operation("PUT", "/api/v1/adapters/{name}/grants/{tenant}", GrantRead)
    def grant(self, adapter: str, tenant: str) -> Given:
        """Let a tenant use an adapter; again is no error."""
        return Given({"name": adapter, "tenant": tenant})

    @operation("DELETE", "/api/v1/adapters/{name}/grants/{tenant}", type(None))
    def revoke(self, adapter: str, tenant: str) -> Given:
        """It may not any more."""
        return Given({"name": adapter, "tenant": tenant})
