"""Limits of tenants in the cache: slots, host bytes and pins of the adapters that they own.

Stands before `Admission`: whoever waits here for a place of its tenant takes none from the others.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from engine.cache.admission import Admission
from engine.cache.lease import Revoke, TenantHold
from engine.cache.tenant_memory import Tenancy, TenantMemory
from engine.cache.tenant_queue import TenantQueue
from engine.errors import EngineError, QueueFull, SlotWaitTimeout, TenantLimitReached
from engine.events import Refused
from engine.policy.policy import CachePolicy
from engine.ports import Observer
from engine.types import AdapterVersion, AdmissionLimits, Lease, VersionId
from registry.errors.access import Limit

_TRIM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TenantCacheUsage:
    """`slots`: adapters leased or awaited. `waiting`: requests that wait for one of those."""

    slots: int = 0
    host_bytes: int = 0
    pins: int = 0
    waiting: int = 0


class TenantCacheLimits:
    """One line for each tenant that has requests."""

    def __init__(
        self,
        tenancy: Tenancy,
        host: TenantMemory,
        policy: CachePolicy,
        admission: Admission,
        observer: Observer,
        limits: AdmissionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._tenancy = tenancy
        self._host = host
        self._policy = policy
        self._admission = admission
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._lines: dict[str, TenantQueue] = {}
        self._trimmed_at = clock()
        admission.on_look.append(self.look)

    def tenant_of(self, version: AdapterVersion) -> str | None:
        return self._tenancy.tenant_of(version.adapter)

    def usage(self, tenant: str) -> TenantCacheUsage:
        line = self._lines.get(tenant)
        return TenantCacheUsage(
            slots=len(self._inside(tenant)),
            host_bytes=self._host.bytes_of(self._host.has_come(tenant)),
            pins=len(self._host.pinned(tenant)),
            waiting=0 if line is None else len(line),
        )

    # ---- slots ---------------------------------------------------------------------------

    def lease(
        self, version: AdapterVersion, revoke: Revoke | None
    ) -> AbstractAsyncContextManager[Lease]:
        """See `CacheController.lease`."""
        return TenantHold(self, version, revoke)

    def admit(
        self, version: AdapterVersion, revoke: Revoke | None, waited_seconds: float
    ) -> AbstractAsyncContextManager[Lease]:
        """To whoever has entered."""
        return self._admission.lease(version, revoke, waited_seconds)

    def refused(self, version: AdapterVersion, error: EngineError) -> None:
        self._observer.on_event(Refused(version, error))

    def has_place(self, version: AdapterVersion) -> bool:
        """Whether `enter` would not have to wait."""
        if (tenant := self.tenant_of(version)) is None:
            return True
        line, inside = self._lines.get(tenant), self._inside(tenant)
        return not line and (version.id in inside or self.make(version, inside))

    async def enter(self, version: AdapterVersion) -> float:
        """Wait until the adapter may be used, and say how long that took. Then `leave` has to be.

        Raises TenantLimitReached, AdapterTooLarge, QueueFull, SlotWaitTimeout, EngineUnavailable.
        """
        if (tenant := self.tenant_of(version)) is None:
            return 0.0
        self._check(tenant, version)
        line = self._lines.get(tenant)
        if line is None:
            line = TenantQueue(self, self._clock, self._admission.patience_seconds)
            self._lines[tenant] = line
        try:
            return 0.0 if line.enter_at_once(version) else await self._wait(tenant, line, version)
        finally:
            self._forget_if_empty(tenant)

    def leave(self, version: AdapterVersion) -> None:
        """One that entered needs it no more."""
        if (tenant := self.tenant_of(version)) is not None:
            self._lines[tenant].leave(version.id)
            self._forget_if_empty(tenant)

    async def _wait(self, tenant: str, line: TenantQueue, version: AdapterVersion) -> float:
        arrived = self._clock()
        self._check_line(tenant, line, version)
        try:
            async with asyncio.timeout(self._limits.slot_timeout_seconds):
                await line.wait(version)
        except TimeoutError:
            self._tenancy.refused(tenant, Limit.SLOTS)
            raise SlotWaitTimeout(version.reference, self._clock() - arrived) from None
        return self._clock() - arrived

    def _inside(self, tenant: str) -> Collection[VersionId]:
        line = self._lines.get(tenant)
        return () if line is None else line.inside

    def _forget_if_empty(self, tenant: str) -> None:
        line = self._lines.get(tenant)
        if line is not None and line.is_empty:
            del self._lines[tenant]

    # ---- what is refused at once ---------------------------------------------------------

    def _check(self, tenant: str, version: AdapterVersion) -> None:
        if self._admission.closed is not None:
            raise self._admission.closed
        self._policy.learn_size(version.id, version.size_bytes)
        if self._tenancy.limits_of(tenant).max_slots == 0:
            raise self._refusal(tenant, Limit.SLOTS, f"the tenant {tenant} may use no slots")
        self._check_size(tenant, version)

    def _check_size(self, tenant: str, version: AdapterVersion) -> None:
        most, size_bytes = self._host.max_bytes(tenant), self._policy.size_of(version.id)
        if most is not None and size_bytes > most:
            detail = f"{version.reference} takes {size_bytes} bytes of host memory, and the"
            raise self._refusal(tenant, Limit.HOST_BYTES, f"{detail} tenant {tenant} has {most}")

    def _check_line(self, tenant: str, line: TenantQueue, version: AdapterVersion) -> None:
        """The limits of the line hold here too, but here each tenant has a line of its own."""
        limits, whose = self._limits, None
        most, ahead = limits.max_waiting, len(line)
        if ahead < most:
            whose, most = version.adapter, limits.max_waiting_per_adapter
            ahead = line.waiting(version.id) + self._policy.wait_queue.count(version.id)
        if ahead >= most:
            self._tenancy.refused(tenant, Limit.SLOTS)
            raise QueueFull(most, self._admission.retry_after_seconds(ahead), whose)

    def check_pin(self, version: AdapterVersion) -> None:
        """Raises TenantLimitReached if one more pin would be too much."""
        if (tenant := self.tenant_of(version)) is None:
            return
        pinned = {*self._host.pinned(tenant), version.id}
        most = self._tenancy.limits_of(tenant).max_pins
        if most is not None and len(pinned) > most:
            detail = f"{most} adapters of the tenant {tenant} may be pinned"
            raise self._refusal(tenant, Limit.PINS, detail)
        if not self._host.fits_beside_pins(tenant, version):
            detail = f"{self._host.bytes_of(pinned)} bytes would be pinned, and the tenant {tenant}"
            detail = f"{detail} has {self._host.max_bytes(tenant)} of host memory"
            raise self._refusal(tenant, Limit.HOST_BYTES, detail)

    def check_prefetch(self, version: AdapterVersion) -> None:
        """Make room for it. Raises TenantLimitReached if what is in use keeps the bytes."""
        if (tenant := self.tenant_of(version)) is None:
            return
        self._check_size(tenant, version)
        if not self._host.make_room(tenant, version, self._inside(tenant)):
            detail = f"adapters of the tenant {tenant} that are in use or pinned leave too few of"
            detail = f"{detail} its {self._host.max_bytes(tenant)} bytes of host memory"
            raise self._refusal(tenant, Limit.HOST_BYTES, detail)

    def _refusal(self, tenant: str, limit: Limit, detail: str) -> TenantLimitReached:
        self._tenancy.refused(tenant, limit)
        return TenantLimitReached(limit, detail)

    # ---- the room that the limits leave; see TenantQueue ----------------------------------

    def make(self, version: AdapterVersion, inside: Collection[VersionId]) -> bool:
        if (tenant := self.tenant_of(version)) is None:
            return True
        most = self._tenancy.limits_of(tenant).max_slots
        if most is not None and len(inside) >= most:
            return False
        return self._host.make_room(tenant, version, inside)

    def comes(self, version: AdapterVersion) -> bool:
        tenant = self.tenant_of(version)
        return tenant is None or self._host.fits_beside_pins(tenant, version)

    # ---- from time to time ---------------------------------------------------------------

    def look(self) -> None:
        """Something may have changed for those who wait: a pin, a limit, what is in memory."""
        for line in list(self._lines.values()):
            line.look()
        now = self._clock()
        if now - self._trimmed_at >= _TRIM_SECONDS:
            self._trimmed_at = now
            self._host.trim(self._inside)

    def fail_all(self, error: EngineError) -> None:
        """The engine has gone."""
        for line in list(self._lines.values()):
            line.fail_all(error)
