"""Requests in flight: their number for each tenant, its limit, and who waits for a first token."""

import asyncio
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import TenantLimitReached
from registry.errors.access import Limit
from registry.quotas.limits import LimitsOf, RefusalObserver, null_refusal_observer, unlimited

_REMEMBERED = 32


@dataclass(slots=True)
class _Counted:
    """Of all callers. `awaited`: those of whose answers nothing has come."""

    all: int = 0
    awaited: int = 0
    none_awaited: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class InFlight:
    """A request that is counted until its `end`."""

    _counted: _Counted
    _on_end: Callable[[], None] | None
    _is_awaited: bool = True

    def begin_answer(self) -> None:
        """The first part of its answer has come: of a stream, the first token."""
        if not self._is_awaited:
            return
        self._is_awaited = False
        self._counted.awaited -= 1
        if not self._counted.awaited:
            self._counted.none_awaited.set()

    def end(self) -> None:
        """To be called once, after its answer."""
        self.begin_answer()
        self._counted.all -= 1
        if self._on_end is not None:
            self._on_end()


def uncounted() -> InFlight:
    """One that no limit counts."""
    return InFlight(_Counted(all=1, awaited=1), None)


class RequestLimit(Protocol):
    def begin(self) -> InFlight:
        """Count the running request until its end. Raises TenantLimitReached."""


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
        self._counted = _Counted()
        self._count: Counter[str] = Counter()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def has_any(self) -> bool:
        """Whether there is a request in flight, of any caller."""
        return self._counted.all > 0

    def is_first_token_awaited(self) -> bool:
        """Whether there is a request, of any caller, of whose answer nothing has come."""
        return self._counted.awaited > 0

    async def until_first_tokens(self, within_seconds: float) -> None:
        """Until no request waits for its first token, or for so long."""
        if self._counted.awaited:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_seconds):
                    await self._counted.none_awaited.wait()

    def of(self, tenant: str) -> int:
        return self._count[tenant]

    def begin(self) -> InFlight:
        """Count the running request; the caller ends the result. Raises TenantLimitReached."""
        on_end = None if (tenant := self._caller()) is None else self._begin_of(tenant)
        self._counted.all += 1
        self._counted.awaited += 1
        self._counted.none_awaited.clear()
        return InFlight(self._counted, on_end)

    def _begin_of(self, tenant: str) -> Callable[[], None]:
        most = self._limits_of(tenant).max_requests_in_flight
        if most is not None and self._count[tenant] >= most:
            self._refused(tenant, Limit.REQUESTS_IN_FLIGHT)
            raise TenantLimitReached(
                Limit.REQUESTS_IN_FLIGHT,
                f"{most} requests of the tenant {tenant} may be in flight, and they are",
                retry_after_seconds=self._retry_after_seconds(tenant, most),
            )
        self._count[tenant] += 1
        began = self._clock()
        return lambda: self._end(tenant, began)

    def _end(self, tenant: str, began: float) -> None:
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
