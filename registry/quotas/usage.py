"""Usage of a tenant's limits."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveUsage:
    """Current usage in this server. `slots`: adapters that requests hold or await."""

    requests_in_flight: int = 0
    slots: int = 0
    host_bytes: int = 0
    pins: int = 0


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """Usage in the database, of all servers. `registrations`: in the last hour."""

    storage_bytes: int
    registrations: int


LiveUsageOf = Callable[[str], LiveUsage]


def no_live_usage(tenant: str) -> LiveUsage:
    """Null usage, without an engine."""
    return LiveUsage()
