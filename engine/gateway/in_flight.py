"""Requests in flight: their number for each tenant, and its limit."""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

from engine.errors import TenantLimitReached
from registry.errors.access import Limit
from registry.quotas.limits import LimitsOf, RefusalObserver, null_refusal_observer, unlimited

_REMEMBERED = 32


class RequestsInFlight:
    """Counts a request until its response has ended. `caller`: the running request's tenant.

    A caller without a tenant has no limit.
    """

    def __init__(
        self,
        caller: Callable[[], str | None],
        limits_of: LimitsOf = unlimited,
        refused: RefusalObserver = null_refusal_observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caller = caller
        self._limits_of = limits_of
        self._refused = refused
        self._clock = clock
        self._all = 0
        self._count: Counter[str] = Counter()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def has_any(self) -> bool:
        """Whether there is a request in flight, of any caller."""
        return self._all > 0

    def of(self, tenant: str) -> int:
        return self._count[tenant]

    def begin(self) -> Callable[[], None]:
        """Count the running request; the caller calls the result at its end.

        Raises TenantLimitReached.
        """
        if (tenant := self._caller()) is None:
            self._all += 1
            return self._end_one
        most = self._limits_of(tenant).max_requests_in_flight
        if most is not None and self._count[tenant] >= most:
            self._refused(tenant, Limit.REQUESTS_IN_FLIGHT)
            raise TenantLimitReached(
                Limit.REQUESTS_IN_FLIGHT,
                f"{most} requests of the tenant {tenant} may be in flight, and they are",
                retry_after_seconds=self._retry_after_seconds(tenant, most),
            )
        self._all += 1
        self._count[tenant] += 1
        began = self._clock()
        return lambda: self._end(tenant, began)

    def _end_one(self) -> None:
        self._all -= 1

    def _end(self, tenant: str, began: float) -> None:
        self._end_one()
        self._seconds[tenant].append(self._clock() - began)
        self._count[tenant] -= 1
        if not self._count[tenant]:
            del self._count[tenant]
            del self._seconds[tenant]

    def _retry_after_seconds(self, tenant: str, most: int) -> int:
        """Estimated time until the next one ends, from how long the latest ones took."""
        seconds = self._seconds.get(tenant)
        if not seconds or not most:
            return 1
        return max(1, math.ceil(sum(seconds) / len(seconds) / most))
