"""Tenant limits in the cache: slots, host bytes and pins of the adapters that a tenant owns.

The stage of a lease before `Admission`: a request that waits here takes no place from other
tenants.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from engine.cache.admission import Admission
from engine.cache.lease import LeaseRequest
from engine.cache.tenant_memory import Tenancy, TenantMemory
from engine.cache.tenant_queue import TenantQueue
from engine.errors import EngineError, QueueFull, SlotWaitTimeout, TenantLimitReached
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, AdmissionLimits, VersionId
from registry.errors.access import Limit

_TRIM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TenantCacheUsage:
    """`slots`: adapters leased or waited for. `waiting`: requests in the tenant's queue."""

    slots: int = 0
    host_bytes: int = 0
    pins: int = 0
    waiting: int = 0


class TenantCacheLimits:
    """One queue for each tenant that has requests."""

    def __init__(
        self,
        tenancy: Tenancy,
        memory: TenantMemory,
        policy: CachePolicy,
        admission: Admission,
        limits: AdmissionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._tenancy = tenancy
        self._memory = memory
        self._policy = policy
        self._admission = admission
        self._limits = limits
        self._clock = clock
        self._queues: dict[str, TenantQueue] = {}
        self._trimmed_at = clock()
        admission.add_periodic_check(self.check_queues)

    def tenant_of(self, version: AdapterVersion) -> str | None:
        return self._tenancy.tenant_of(version.adapter)

    def usage(self, tenant: str) -> TenantCacheUsage:
        queue = self._queues.get(tenant)
        return TenantCacheUsage(
            slots=len(self._in_use(tenant)),
            host_bytes=self._memory.held_bytes(tenant),
            pins=len(self._memory.pinned(tenant)),
            waiting=0 if queue is None else len(queue),
        )

    # ---- slots ---------------------------------------------------------------------------

    def has_room(self, version: AdapterVersion) -> bool:
        """Whether `enter` would not have to wait."""
        if (tenant := self.tenant_of(version)) is None:
            return True
        queue, in_use = self._queues.get(tenant), self._in_use(tenant)
        return not queue and (version.id in in_use or self.make_room(version, in_use))

    def enters_immediately(self, request: LeaseRequest) -> bool:
        """See `LeaseStage`."""
        return self.has_room(request.version)

    async def enter(self, request: LeaseRequest) -> Callable[[], None]:
        """See `LeaseStage`.

        Raises TenantLimitReached, AdapterTooLarge, QueueFull, SlotWaitTimeout, EngineUnavailable.
        """
        version = request.version
        if (tenant := self.tenant_of(version)) is None:
            return lambda: None
        self._check(tenant, version)
        queue = self._queues.get(tenant)
        if queue is None:
            queue = TenantQueue(self, self._clock, self._admission.patience_seconds)
            self._queues[tenant] = queue
        try:
            if not queue.try_enter(version):
                request.waited_seconds += await self._wait(tenant, queue, version)
        finally:
            self._drop_if_empty(tenant)
        return partial(self._leave, tenant, version.id)

    def _leave(self, tenant: str, version: VersionId) -> None:
        self._queues[tenant].leave(version)
        self._drop_if_empty(tenant)

    async def _wait(self, tenant: str, queue: TenantQueue, version: AdapterVersion) -> float:
        arrived = self._clock()
        self._check_queue(tenant, queue, version)
        expected = self._policy.foresight.expect(version.id)
        try:
            async with asyncio.timeout(self._limits.slot_timeout_seconds):
                await queue.wait(version)
        except TimeoutError:
            self._tenancy.on_refusal(tenant, Limit.SLOTS)
            raise SlotWaitTimeout(version.reference, self._clock() - arrived) from None
        finally:
            self._policy.foresight.forget(version.id, expected)
        return self._clock() - arrived

    def _in_use(self, tenant: str) -> Collection[VersionId]:
        queue = self._queues.get(tenant)
        return () if queue is None else queue.in_use

    def _drop_if_empty(self, tenant: str) -> None:
        queue = self._queues.get(tenant)
        if queue is not None and queue.is_empty:
            del self._queues[tenant]

    # ---- refusals ------------------------------------------------------------------------

    def _check(self, tenant: str, version: AdapterVersion) -> None:
        if self._admission.closed is not None:
            raise self._admission.closed
        self._policy.learn_size(version.id, version.size_bytes)
        if self._tenancy.limits_of(tenant).max_slots == 0:
            raise self._refusal(tenant, Limit.SLOTS, f"the tenant {tenant} may use no slots")
        self._check_size(tenant, version)

    def _check_size(self, tenant: str, version: AdapterVersion) -> None:
        limit, size_bytes = self._memory.max_bytes(tenant), self._policy.size_of(version.id)
        if limit is not None and size_bytes > limit:
            detail = f"{version.reference} takes {size_bytes} bytes of host memory, and the"
            raise self._refusal(tenant, Limit.HOST_BYTES, f"{detail} tenant {tenant} has {limit}")

    def _check_queue(self, tenant: str, queue: TenantQueue, version: AdapterVersion) -> None:
        """Admission's queue limits hold for each tenant's queue too."""
        limits, adapter = self._limits, None
        limit, ahead = limits.max_waiting, len(queue)
        if ahead < limit:
            adapter, limit = version.adapter, limits.max_waiting_per_adapter
            ahead = queue.count(version.id) + self._policy.wait_queue.count(version.id)
        if ahead >= limit:
            self._tenancy.on_refusal(tenant, Limit.SLOTS)
            raise QueueFull(limit, self._admission.retry_after_seconds(ahead), adapter)

    def check_pin(self, version: AdapterVersion) -> None:
        """Raises TenantLimitReached if one more pin would be too much."""
        if (tenant := self.tenant_of(version)) is None:
            return
        pinned = {*self._memory.pinned(tenant), version.id}
        limit = self._tenancy.limits_of(tenant).max_pins
        if limit is not None and len(pinned) > limit:
            detail = f"{limit} adapters of the tenant {tenant} may be pinned"
            raise self._refusal(tenant, Limit.PINS, detail)
        if not self._memory.fits_beside_pins(tenant, version):
            pinned_bytes, limit = self._memory.bytes_of(pinned), self._memory.max_bytes(tenant)
            detail = f"{pinned_bytes} bytes would be pinned, and the tenant {tenant}"
            detail = f"{detail} has {limit} of host memory"
            raise self._refusal(tenant, Limit.HOST_BYTES, detail)

    def check_prefetch(self, version: AdapterVersion) -> None:
        """Make room for it. Raises TenantLimitReached if there is none beside what is in use."""
        if (tenant := self.tenant_of(version)) is None:
            return
        self._check_size(tenant, version)
        if not self._memory.make_room(tenant, version, self._in_use(tenant)):
            detail = f"adapters of the tenant {tenant} that are in use or pinned leave too few of"
            detail = f"{detail} its {self._memory.max_bytes(tenant)} bytes of host memory"
            raise self._refusal(tenant, Limit.HOST_BYTES, detail)

    def _refusal(self, tenant: str, limit: Limit, detail: str) -> TenantLimitReached:
        self._tenancy.on_refusal(tenant, limit)
        return TenantLimitReached(limit, detail)

    # ---- see TenantRoom ------------------------------------------------------------------

    def make_room(self, version: AdapterVersion, in_use: Collection[VersionId]) -> bool:
        if (tenant := self.tenant_of(version)) is None:
            return True
        limit = self._tenancy.limits_of(tenant).max_slots
        if limit is not None and len(in_use) >= limit:
            return False
        return self._memory.make_room(tenant, version, in_use)

    def can_ever_fit(self, version: AdapterVersion) -> bool:
        tenant = self.tenant_of(version)
        return tenant is None or self._memory.fits_beside_pins(tenant, version)

    # ---- periodically --------------------------------------------------------------------

    def check_queues(self) -> None:
        """Pins, limits or what is in memory may have changed."""
        for queue in list(self._queues.values()):
            queue.admit_waiters()
        now = self._clock()
        if now - self._trimmed_at >= _TRIM_SECONDS:
            self._trimmed_at = now
            self._memory.trim(self._in_use)

    def fail_all(self, error: EngineError) -> None:
        """The engine has died."""
        for queue in list(self._queues.values()):
            queue.fail_all(error)
