"""How much a tenant may have of everything."""

from dataclasses import dataclass

from registry.tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """A limit of None is none."""

    max_requests_in_flight: int | None = None
    max_slots: int | None = None
    max_host_bytes: int | None = None
    max_pins: int | None = None
    max_storage_bytes: int | None = None
    max_registrations_per_hour: int | None = None


LIMIT_FIELDS = tuple(TenantLimits.__slots__)


def limits_of(tenant: Tenant) -> TenantLimits:
    return TenantLimits(**{field: getattr(tenant, field) for field in LIMIT_FIELDS})
