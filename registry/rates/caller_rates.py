"""Caller rates: the limits of a request's key and tenant, and what the request takes of them.

Tokens are taken by an estimate before the engine has counted, and corrected at the end.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from registry.auth.caller import Caller
from registry.auth.rate_limits import RateLimits
from registry.errors import RateLimitExceeded
from registry.errors.access import Limit
from registry.quotas.limits import LimitsOf, RefusalObserver, null_refusal_observer
from registry.rates.windows import RateWindows, WindowState

Unit = Literal["requests", "tokens", "bytes"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "bytes")

LIMIT_OF = {
    "requests": Limit.REQUESTS_PER_MINUTE,
    "tokens": Limit.TOKENS_PER_MINUTE,
    "bytes": Limit.BYTES_PER_MINUTE,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A key or a tenant with limits. `tenant`: whose refusals are counted, if any's."""

    name: str
    limits: RateLimits
    tenant: str | None

    @classmethod
    def of_key(cls, name: str, limits: RateLimits, tenant: str | None = None) -> "Subject":
        return cls(f"key {name}", limits, tenant)

    @classmethod
    def of_tenant(cls, name: str, limits: RateLimits) -> "Subject":
        return cls(f"tenant {name}", limits, name)

    def most(self, unit: Unit) -> int | None:
        most: int | None = getattr(self.limits, f"max_{unit}_per_minute")
        return most

    def key(self, unit: Unit) -> str:
        """Under which it is counted."""
        return f"{unit} of {self.name}"

    def limits_by_key(self) -> dict[str, int]:
        found = {self.key(unit): self.most(unit) for unit in UNITS}
        return {key: most for key, most in found.items() if most is not None}


class CallerRates:
    """Creates `RequestRates` for callers that have a limit."""

    def __init__(
        self,
        windows: RateWindows,
        limits_of: LimitsOf,
        refused: RefusalObserver = null_refusal_observer,
    ) -> None:
        self._windows = windows
        self._limits_of = limits_of
        self._refused = refused

    def of(self, caller: Caller) -> "RequestRates | None":
        """None if nothing of it is limited, which is cheap to find."""
        tenant = caller.tenant
        tenant_rates = None if tenant is None else self._limits_of(tenant).rates
        if caller.rates is None and tenant_rates is None:
            return None
        subjects = []
        if caller.rates is not None:
            subjects.append(Subject.of_key(caller.name, caller.rates, tenant))
        if tenant is not None and tenant_rates is not None:
            subjects.append(Subject.of_tenant(tenant, tenant_rates))
        return RequestRates(self._windows, subjects, self._refused)


def uncounted_rates() -> "RequestRates":
    """Without limits, for who only needs to know what was used."""
    return RequestRates(_NO_WINDOWS, (), null_refusal_observer)


_NO_WINDOWS = RateWindows()


@dataclass(frozen=True, slots=True)
class _Taken:
    subject: str
    most: int
    cost: int
    minute: int


class RequestRates:
    """What one request takes of the limits of its key and its tenant."""

    def __init__(
        self, windows: RateWindows, subjects: Sequence[Subject], refused: RefusalObserver
    ) -> None:
        self._windows = windows
        self._subjects = subjects
        self._refused = refused
        self._taken: dict[Unit, list[_Taken]] = {}
        self._states: dict[Unit, tuple[int, WindowState]] = {}
        self._used: dict[Unit, int] = {}
        self._is_settled = False
        self._late: set[asyncio.Task[None]] = set()

    def again(self) -> "RequestRates":
        """The same limits, for a further request of the same connection."""
        return RequestRates(self._windows, self._subjects, self._refused)

    def limits(self, unit: Unit) -> bool:
        """Whether `take` could refuse it."""
        return any(subject.most(unit) is not None for subject in self._subjects)

    async def take(self, unit: Unit, cost: int, *, at_least: int | None = None) -> None:
        """Take it of every limit, or of none. Raises RateLimitExceeded.

        `at_least`: what of it is no estimate (all, if omitted). Only that is refused for being more
        than a whole limit; with its estimate a request takes a whole limit at most.
        """
        for subject in self._subjects:
            if (most := subject.most(unit)) is not None:
                certain = cost if at_least is None else at_least
                wanted = cost if certain > most else min(cost, most)
                await self._take_of(subject, unit, most, wanted)

    async def _take_of(self, subject: Subject, unit: Unit, most: int, cost: int) -> None:
        key = subject.key(unit)
        taken = self._taken.setdefault(unit, [])
        minute = self._windows.minute()
        has_room = most > 0 and await self._windows.take(key, most, cost)
        state = await self._windows.state(key, most)
        known = self._states.get(unit)
        if not has_room or known is None or state.remaining < known[1].remaining:
            self._states[unit] = most, state
        if has_room:
            taken.append(_Taken(key, most, cost, minute))
            return
        for each in taken:
            await self._windows.correct(each.subject, each.most, each.minute, -each.cost)
        taken.clear()
        if subject.tenant is not None:
            self._refused(subject.tenant, LIMIT_OF[unit])
        wait = state.wait_seconds(most, cost) if cost <= most else None
        raise RateLimitExceeded(subject.name, unit, most, cost, wait)

    # ---- what was used, once that is known ----------------------------------------------------

    def count(self, unit: Unit, used: int) -> None:
        """Add what was used. Without any call of it the estimate stands."""
        self._used[unit] = self._used.get(unit, 0) + used
        if self._is_settled and used:  # the engine ends an aborted request after its response
            late = asyncio.create_task(self._correct(unit, used))
            self._late.add(late)
            late.add_done_callback(self._late.discard)

    def used(self, unit: Unit) -> int | None:
        """What `count` added; None if it was never called."""
        return self._used.get(unit)

    async def settle(self) -> None:
        """At the end of the response: correct what was taken by what was used."""
        self._is_settled = True
        for unit, used in self._used.items():
            for taken in self._taken.get(unit, ()):
                await self._windows.correct(
                    taken.subject, taken.most, taken.minute, used - taken.cost
                )

    async def _correct(self, unit: Unit, by: int) -> None:
        for taken in self._taken.get(unit, ()):
            await self._windows.correct(taken.subject, taken.most, self._windows.minute(), by)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's `x-ratelimit-…`, of the limit of which the least is left."""
        headers = []
        for unit, (most, state) in self._states.items():
            for name, value in (
                ("limit", str(most)),
                ("remaining", str(state.remaining)),
                ("reset", openai_duration(state.reset_seconds)),
            ):
                headers.append((f"x-ratelimit-{name}-{unit}".encode(), value.encode()))
        return headers


def openai_duration(seconds: float) -> str:
    """As OpenAI writes it: `1m30s`, `250ms`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
