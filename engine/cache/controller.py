"""Cache controller: leases for requests, commands for operators, reconciliation with the engine."""

import time
from collections.abc import Callable
from dataclasses import replace

from engine.cache.admission import Admission
from engine.cache.drift import find_drift, repair_drift
from engine.cache.event_reporter import EventReporter
from engine.cache.executor import DecisionExecutor
from engine.cache.lease import (
    NULL_LISTENER,
    LeaseContext,
    LeaseListener,
    LeaseRequest,
    LeaseStage,
    Revoke,
)
from engine.cache.load_gate import FIRST_PAUSE_SECONDS, FitCheck, LoadGate, NullFitCheck
from engine.cache.loader import Loader
from engine.cache.snapshot import CacheSnapshot, take_snapshot
from engine.cache.state import CacheState
from engine.cache.tenant_limits import TenantCacheLimits
from engine.cache.tenant_memory import Tenancy, TenantMemory
from engine.cache.waiters import wait_within
from engine.errors import AdapterPinned, EngineUnavailable, EvictionTimeout, HostWaitTimeout
from engine.events import EngineReady, Pinned, Unpinned
from engine.policy.policy import CachePolicy
from engine.ports import Backend, EngineState, Observer, Observers
from engine.types import AdapterVersion, AdmissionLimits, Tier, VersionId


class CacheController:
    """The only writer of both tiers. Used on one event loop, where `run` has to run too."""

    def __init__(
        self,
        policy: CachePolicy,
        backend: Backend,
        loader: Loader,
        observer: Observer,
        limits: AdmissionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        tenancy: Tenancy | None = None,
        fit: FitCheck | None = None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        limits, tenancy = limits or AdmissionLimits(), tenancy or Tenancy()
        self.gate = LoadGate(
            fit or NullFitCheck(), observer, clock, first_pause_seconds=first_pause_seconds
        )
        observer = Observers(self.gate, observer)
        self._policy = policy
        self._wait_seconds = limits.slot_timeout_seconds
        self._backend = backend
        self._observer = observer
        self._state = CacheState(clock, policy.is_needed)
        self._reporter = EventReporter(observer, self._state)
        self._executor = DecisionExecutor(
            policy, backend, loader, observer, self._reporter, self._state
        )
        self._admission = Admission(policy, self._executor, self._reporter, self._state, limits)
        memory = TenantMemory(tenancy, policy, self._executor, self._state)
        self.tenants = TenantCacheLimits(tenancy, memory, policy, self._admission, limits, clock)

    async def run(self) -> None:
        """Keep the queues fair, until cancelled; then cancel the loads and moves in flight."""
        try:
            await self._admission.run()
        finally:
            await self._executor.stop()

    # ---- requests ------------------------------------------------------------------------

    def lease(
        self,
        version: AdapterVersion,
        revoke: Revoke | None = None,
        listener: LeaseListener = NULL_LISTENER,
    ) -> LeaseContext:
        """Keep the adapter in a slot while the block runs, however it ends.

        `revoke` is called if an operator forces the adapter out; it has to end the block soon.
        Raises AdapterLoadFailed, AdapterTooLarge, QueueFull, SlotWaitTimeout, TenantLimitReached or
        EngineUnavailable on entry.
        """
        return self._lease(LeaseRequest(version, revoke), listener)

    def _lease(
        self, request: LeaseRequest, listener: LeaseListener = NULL_LISTENER
    ) -> LeaseContext:
        stages: tuple[LeaseStage, ...] = (self._admission,)
        if self.tenants.tenant_of(request.version) is not None:
            stages = (self.tenants, self._admission)
        if not self._policy.in_host(request.version.id):
            stages = (self.gate, *stages)
        return LeaseContext(request, stages, self._observer, listener)

    # ---- operators -----------------------------------------------------------------------

    def prefetch(self, version: AdapterVersion) -> None:
        """Load it into host memory in the background, when there is room.

        Raises AdapterLoadFailed if this engine can't load it now, AdapterTooLarge,
        TenantLimitReached.
        """
        if not self._policy.in_host(version.id):
            self.gate.check(version)
        self._policy.learn_size(version.id, version.size_bytes)
        self._state.add_version(version)
        self.tenants.check_prefetch(version)
        self._policy.prefetch(version.id)
        self._executor.advance()

    async def load_into_host(self, version: AdapterVersion) -> None:
        """Load it into host memory. Raises what `prefetch` or the load raises; HostWaitTimeout."""
        if not self._policy.in_host(version.id):
            self.prefetch(version)
            timeout = HostWaitTimeout(retry_after_seconds=1)
            in_host = self._executor.wait_until_in_host(version.id)
            await wait_within(in_host, self._wait_seconds, timeout)

    async def load_into_idle_slot(self, version: AdapterVersion) -> None:
        """Load it into a slot that is free or idle now; does nothing if all are in use.

        Raises what `lease` raises.
        """
        slots = self.snapshot().slots_by_state()
        in_use = slots["leased"] + slots["pinned"]
        has_room = not self._policy.wait_queue and in_use < self._policy.slots
        if has_room and self.tenants.has_room(version):
            await self._load_into_slot(version)

    async def _load_into_slot(self, version: AdapterVersion) -> None:
        async with self._lease(LeaseRequest(version, counted=False)):
            pass

    async def pin(self, version: AdapterVersion, tier: Tier) -> None:
        """Load and pin it. Returns when it is resident; if the load fails it is not pinned.

        Raises PinBudgetExceeded, PinBytesExceeded, or what `lease` raises.
        """
        self._policy.learn_size(version.id, version.size_bytes)
        self._state.add_version(version)
        self.tenants.check_pin(version)
        before = self._policy.pins.tier_of(version.id)
        self._policy.pin(version.id, tier)
        self._executor.fail_eviction_waiters(version.id, AdapterPinned())
        self._executor.advance()  # it may have been draining
        try:
            if tier is Tier.GPU:
                await self._load_into_slot(version)
            else:
                await self.load_into_host(version)
        except BaseException:
            self._undo_pin(version.id, tier, before)
            raise
        self._observer.on_event(Pinned(version, tier))

    def unpin(self, version: VersionId) -> Tier:
        """Allow its eviction again. Raises NotPinned."""
        tier = self._policy.pins.remove(version)
        self._observer.on_event(Unpinned(self._state.version(version), tier))
        self._executor.advance()
        return tier

    def record_loss(self, version: VersionId) -> None:
        """It was resident when an earlier process ended: that is the cause of its next miss."""
        self._state.record_loss([version])

    def is_pinned(self, version: VersionId) -> bool:
        return version in self._policy.pins

    def uses(self, version: VersionId) -> bool:
        """Whether requests hold or wait for it, it is being loaded, or it is pinned."""
        return self.is_pinned(version) or self._policy.in_use(version)

    async def evict(
        self, version: AdapterVersion, *, wait: bool = False, force: bool = False
    ) -> bool:
        """Evict it from both tiers. False if it was on disk only.

        `wait`: after the release of its last lease, and until then no request gets another one.
        `force`: the requests that hold it are ended. Raises AdapterPinned, AdapterInUse if it would
        have to wait and should not, EvictionTimeout.
        """
        if self._policy.is_on_disk_only(version.id):
            return False
        self._policy.evict(version.id, when_idle=wait or force)
        evicted = self._executor.wait_until_evicted(version.id)
        if force:
            self._admission.revoke_leases(version.id, until=evicted)
        self._executor.advance()
        timeout = EvictionTimeout(retry_after_seconds=1)
        await self._executor.await_eviction(version.id, evicted, self._wait_seconds, timeout)
        return True

    def _undo_pin(self, version: VersionId, tier: Tier, before: Tier | None) -> None:
        """Does nothing if it was unpinned or pinned in the other tier meanwhile."""
        if self._policy.pins.tier_of(version) is tier:
            self._policy.pins.remove(version)
            if before is not None and self._policy.in_host(version):
                self._policy.pin(version, before)
        self._executor.advance()

    # ---- the engine ----------------------------------------------------------------------

    @property
    def unavailable(self) -> EngineUnavailable | None:
        """Why no request can be served now, if that is so."""
        return self._admission.closed

    async def on_engine_lost(self, why: EngineUnavailable) -> None:
        """Fail the waiting requests, refuse new ones, forget what was resident. Pins stay."""
        self._admission.close(why)
        self.tenants.fail_all(why)
        await self._executor.on_engine_lost(why)

    def on_engine_ready(self) -> None:
        """There is a new engine, which holds nothing yet."""
        self._observer.on_event(EngineReady())
        self._admission.open()
        self._executor.advance()

    async def wait_until_idle(self) -> None:
        """Until the next time that the last lease is released and no request waits."""
        await self._admission.wait_until_idle()

    async def reconcile(self) -> EngineState:
        """Compare with what the engine holds; report a difference as drift and repair it.

        Each version is compared by itself, unless it moves: under steady traffic some always do.
        Nothing is repaired while it is lost or asleep. Raises EngineUnavailable.
        """
        believed = self._policy.residency()
        with self._executor.record_moved() as moved:
            state = await self._backend.engine_state()
        if not self.unavailable and (drift := find_drift(believed, state, moved)):
            self._reporter.report_drift(sorted(drift))
            self._executor.execute(repair_drift(self._policy, state, drift))
            self._executor.advance()
        return state

    # ---- views ---------------------------------------------------------------------------

    def snapshot(self) -> CacheSnapshot:
        """Both tiers as the controller sees them now."""
        return replace(take_snapshot(self._policy, self._state), engine_up=not self.unavailable)
