"""Limits of one tenant, as values."""

from collections.abc import Callable
from dataclasses import dataclass

from registry.errors.access import Limit


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """None: as much as there is."""

    max_requests_in_flight: int | None = None
    max_slots: int | None = None
    max_host_bytes: int | None = None
    max_pins: int | None = None
    max_storage_bytes: int | None = None
    max_registrations_per_hour: int | None = None


NO_LIMITS = TenantLimits()

LimitsOf = Callable[[str], TenantLimits]
"""Of a tenant, by its name, as far as this process knows. Must not block."""

RefusalObserver = Callable[[str, Limit], None]
"""Is told of a tenant that was refused something, and for which limit."""


def unlimited(tenant: str) -> TenantLimits:
    """For whoever knows of no tenants."""
    return NO_LIMITS


def null_refusal_observer(tenant: str, limit: Limit) -> None:
    """The default."""
