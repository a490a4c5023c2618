"""Limit cache: tenants' limits for callers that can't wait for the database."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping

from registry.auth.rate_limits import RateLimits
from registry.database.commit_watch import SeenCommits
from registry.errors import DatabaseUnavailable
from registry.quotas.limits import NO_LIMITS, TenantLimits

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0

ReadAll = Callable[[], Awaitable[Mapping[str, TenantLimits]]]


class LimitCache:
    """Refreshed every second, so that changes by other servers apply here by then.

    During an outage the limits stay as they were.
    """

    def __init__(self, read: ReadAll, commits: SeenCommits) -> None:
        """`read`: the limits of each tenant that has any. Raises DatabaseUnavailable."""
        self._read = read
        self._commits = commits
        self._limits: Mapping[str, TenantLimits] = {}

    def limits_of(self, tenant: str) -> TenantLimits:
        return self._limits.get(tenant, NO_LIMITS)

    def rates(self) -> Iterator[tuple[str, RateLimits]]:
        """Each tenant with limits per minute."""
        for tenant, limits in self._limits.items():
            if (rates := limits.rates) is not None:
                yield tenant, rates

    async def refresh(self) -> None:
        """Raises DatabaseUnavailable."""
        if (unseen := self._commits.unseen()) is not None:
            self._limits = await self._read()
            self._commits.record(unseen)

    async def run(self) -> None:
        """Keep it fresh until cancelled."""
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            try:
                await self.refresh()
            except DatabaseUnavailable as error:
                logger.debug("the limits of tenants stay as they were: %s", error.detail)
