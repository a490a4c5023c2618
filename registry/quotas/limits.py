"""Limits of one tenant, as values."""

from collections.abc import Callable
from dataclasses import dataclass

from registry.auth.rate_limits import RateLimits, rates_of
from registry.errors.access import Limit


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Limits; None means no limit."""

    max_requests_in_flight: int | None = None
    max_slots: int | None = None
    max_host_bytes: int | None = None
    max_pins: int | None = None
    max_storage_bytes: int | None = None
    max_registrations_per_hour: int | None = None
    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = None
    max_bytes_per_minute: int | None = None

    @property
    def rates(self) -> RateLimits | None:
        """None if no rate is limited."""
        return rates_of(self)


NO_LIMITS = TenantLimits()

LimitsOf = Callable[[str], TenantLimits]
"""Limits of a tenant by name, as known to this process. Must not block."""

RefusalObserver = Callable[[str, Limit], None]
"""Called with the tenant and the limit that refused it something."""


def unlimited(tenant: str) -> TenantLimits:
    """Null limits, without tenants."""
    return NO_LIMITS


def null_refusal_observer(tenant: str, limit: Limit) -> None:
    """Null observer."""
