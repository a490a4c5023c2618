"""`client.tenants`: tenants, their limits, and grants of adapters to other tenants."""

from typing import TypeVar

from adaptry.client.models import GrantRead, RateUsageRead, TenantRead, TenantUsageRead
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import UNSET, Parameters, Unset, without_unset

T_co = TypeVar("T_co", covariant=True)

Limit = int | Unset | None


class Tenants(Resource[T_co]):
    """Create tenants, limit them, and grant adapters. None means no limit."""

    @pages("/api/v1/tenants", TenantRead)
    def list(self, *, page_size: int = 100) -> Parameters:
        """All tenants, by name."""
        return Parameters(query={"limit": page_size})

    @operation("GET", "/api/v1/tenants/{tenant}", TenantUsageRead)
    def get(self, tenant: str) -> Parameters:
        """One tenant, its limits, and what it uses."""
        return Parameters({"tenant": tenant})

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
        max_requests_per_minute: Limit = UNSET,
        max_tokens_per_minute: Limit = UNSET,
        max_bytes_per_minute: Limit = UNSET,
    ) -> Parameters:
        """Create a tenant. Its adapters and keys are named `name~…`."""
        body = without_unset(
            name=name,
            max_requests_in_flight=max_requests_in_flight,
            max_slots=max_slots,
            max_host_bytes=max_host_bytes,
            max_pins=max_pins,
            max_storage_bytes=max_storage_bytes,
            max_registrations_per_hour=max_registrations_per_hour,
            max_requests_per_minute=max_requests_per_minute,
            max_tokens_per_minute=max_tokens_per_minute,
            max_bytes_per_minute=max_bytes_per_minute,
        )
        return Parameters(body=body)

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
        max_requests_per_minute: Limit = UNSET,
        max_tokens_per_minute: Limit = UNSET,
        max_bytes_per_minute: Limit = UNSET,
    ) -> Parameters:
        """Change the given limits."""
        body = without_unset(
            max_requests_in_flight=max_requests_in_flight,
            max_slots=max_slots,
            max_host_bytes=max_host_bytes,
            max_pins=max_pins,
            max_storage_bytes=max_storage_bytes,
            max_registrations_per_hour=max_registrations_per_hour,
            max_requests_per_minute=max_requests_per_minute,
            max_tokens_per_minute=max_tokens_per_minute,
            max_bytes_per_minute=max_bytes_per_minute,
        )
        return Parameters({"tenant": tenant}, body=body)

    @operation("DELETE", "/api/v1/tenants/{tenant}", type(None))
    def delete(self, tenant: str) -> Parameters:
        """Remove a tenant that has neither adapters nor valid keys."""
        return Parameters({"tenant": tenant})

    @pages("/api/v1/rates/tenants", RateUsageRead)
    def rates(self, *, page_size: int = 100) -> Parameters:
        """What each tenant with limits per minute has used of them."""
        return Parameters(query={"limit": page_size})

    @pages("/api/v1/usage/tenants", TenantUsageRead)
    def usage(self, *, page_size: int = 100) -> Parameters:
        """All tenants, by name, with their limits and what they use of them."""
        return Parameters(query={"limit": page_size})

    # ---- grants --------------------------------------------------------------------------

    @pages("/api/v1/adapters/{name}/grants", GrantRead)
    def grants(self, adapter: str) -> Parameters:
        """Which tenants may use an adapter besides its own."""
        return Parameters({"name": adapter})

    @operation("PUT", "/api/v1/adapters/{name}/grants/{tenant}", GrantRead)
    def grant(self, adapter: str, tenant: str) -> Parameters:
        """Let a tenant use an adapter. Idempotent."""
        return Parameters({"name": adapter, "tenant": tenant})

    @operation("DELETE", "/api/v1/adapters/{name}/grants/{tenant}", type(None))
    def revoke(self, adapter: str, tenant: str) -> Parameters:
        """Withdraw a grant."""
        return Parameters({"name": adapter, "tenant": tenant})
