"""Usage of a tenant's limits."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveUsage:
    """In this server, now. `slots`: adapters that requests hold or await."""

    requests_in_flight: int = 0
    slots: int = 0
    host_bytes: int = 0
    pins: int = 0


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """In the database, so of all servers on it. `registrations`: in the last hour."""

    storage_bytes: int
    registrations: int


LiveUsageOf = Callable[[str], LiveUsage]


def no_live_usage(tenant: str) -> LiveUsage:
    """Where no engine runs."""
    return LiveUsage()
