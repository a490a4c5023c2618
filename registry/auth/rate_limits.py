"""Rate limits of one key or tenant, as values."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What it may use in a minute; None means no limit."""

    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = None
    max_bytes_per_minute: int | None = None


RATE_FIELDS = tuple(RateLimits.__slots__)


class RateLimited(Protocol):
    """A row or a value with these fields among others."""

    @property
    def max_requests_per_minute(self) -> int | None: ...
    @property
    def max_tokens_per_minute(self) -> int | None: ...
    @property
    def max_bytes_per_minute(self) -> int | None: ...


def rates_of(limited: RateLimited) -> RateLimits | None:
    """None if it has no such limit."""
    requests, tokens = limited.max_requests_per_minute, limited.max_tokens_per_minute
    size = limited.max_bytes_per_minute
    if requests is None and tokens is None and size is None:
        return None
    return RateLimits(requests, tokens, size)
