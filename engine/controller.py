"""What requests and operators ask of the cache: fair turns, and no lease is ever forgotten."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.carrier import Carrier, Pending
from engine.decisions import Ticket
from engine.errors import QueueFull, SlotWaitTimeout
from engine.policy import CachePolicy
from engine.ports import Backend, EngineTruth, Observer
from engine.snapshot import CacheSnapshot, take_snapshot
from engine.types import AdapterVersion, CacheOutcome, Lease, Tier, VersionId

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how many requests may wait for a slot."""

    max_slot_wait_seconds: float = 2.0  # then a hot adapter has to let the waiter in
    slot_timeout_seconds: float = 120.0  # then the request is given up
    max_waiting: int = 1024


class CacheController:
    """The single writer of both tiers. Lives on one event loop; `run` must be running on it."""

    def __init__(
        self,
        policy: CachePolicy,
        backend: Backend,
        observer: Observer,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._backend = backend
        self._observer = observer
        self._limits = limits or Limits()
        self._clock = clock
        self._carrier = Carrier(policy, backend, observer, clock)
        self._tickets = itertools.count(1)

    async def run(self) -> None:
        """Carry decisions out and keep turns fair, until cancelled."""
        try:
            await self._keep_turns_fair()
        finally:
            await self._carrier.stop()

    # ---- leases --------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, version: AdapterVersion) -> AsyncIterator[Lease]:
        """Hold the adapter in a slot while the block runs, however it ends.

        Raises AdapterLoadFailed, QueueFull, SlotWaitTimeout or EngineUnavailable on entry.
        """
        lease = await self._acquire(version, counted=True)
        try:
            yield lease
        finally:
            self._release(version.id)

    async def _acquire(self, version: AdapterVersion, *, counted: bool) -> Lease:
        ticket, pending = self._arrive(version, counted=counted)
        try:
            async with asyncio.timeout(self._limits.slot_timeout_seconds):
                outcome = await pending.granted
                await self._carrier.moves_are_sent()
        except TimeoutError:
            self._abandon(ticket, pending)
            raise SlotWaitTimeout(version.reference, self._waited(pending)) from None
        except BaseException:
            self._abandon(ticket, pending)
            raise
        load_seconds = self._carrier.load_seconds.get(version.id, 0.0)
        missed = outcome is CacheOutcome.MISS
        return Lease(version, outcome, self._waited(pending), load_seconds if missed else 0.0)

    def _arrive(self, version: AdapterVersion, *, counted: bool) -> tuple[Ticket, Pending]:
        if len(self._policy.waiting) >= self._limits.max_waiting:
            raise QueueFull(self._limits.max_waiting, retry_after_seconds=1)
        pending = Pending(
            version=version,
            granted=asyncio.get_running_loop().create_future(),
            arrived=self._clock(),
            cause=self._carrier.history.cause_of_miss(version),
            counted=counted,
        )
        ticket = next(self._tickets)
        self._carrier.pending[ticket] = pending
        self._carrier.versions[version.id] = version
        self._policy.arrive(ticket, version.id)
        self._carrier.advance()
        return ticket, pending

    def _abandon(self, ticket: Ticket, pending: Pending) -> None:
        granted = pending.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._release(pending.version.id)  # granted in the very moment the client left
            return
        self._carrier.pending.pop(ticket, None)
        self._policy.cancel(ticket)
        self._carrier.advance()

    def _release(self, version: VersionId) -> None:
        self._policy.release(version)
        self._carrier.advance()

    def _waited(self, pending: Pending) -> float:
        return self._clock() - pending.arrived

    # ---- what operators ask for ----------------------------------------------------------

    def prefetch(self, version: AdapterVersion) -> None:
        """Bring it into host memory in the background, when there is room."""
        self._carrier.versions[version.id] = version
        self._policy.prefetch(version.id)
        self._carrier.advance()

    async def pin(self, version: AdapterVersion, tier: Tier) -> None:
        """Bring it in and keep it. Returns when it is there; if that fails it is not pinned.

        Raises PinBudgetExceeded, or what `lease` raises.
        """
        before = self._policy.pins.tier_of(version.id)
        self._policy.pin(version.id, tier)
        self._carrier.advance()  # it may have been draining
        try:
            if tier is Tier.GPU:
                await self._acquire(version, counted=False)
                self._release(version.id)
            else:
                await self._bring_to_host(version)
        except BaseException:
            self._take_pin_back(version.id, tier, before)
            raise

    def unpin(self, version: AdapterVersion) -> Tier:
        """Let it be evicted again. Raises NotPinned."""
        tier = self._policy.pins.remove(version.id)
        self._carrier.advance()
        return tier

    def evict(self, version: AdapterVersion) -> bool:
        """Out of both tiers. False if it was on disk only. Raises AdapterPinned, AdapterInUse."""
        decisions = self._policy.evict(version.id)
        self._carrier.carry_out(decisions)
        self._carrier.advance()
        return bool(decisions)

    async def _bring_to_host(self, version: AdapterVersion) -> None:
        if not self._policy.in_host(version.id):
            self.prefetch(version)
            await self._carrier.arrival_in_host(version.id)
        await self._carrier.moves_are_sent()

    def _take_pin_back(self, version: VersionId, tier: Tier, before: Tier | None) -> None:
        """Nothing to do if someone else unpinned or pinned it otherwise meanwhile."""
        if self._policy.pins.tier_of(version) is tier:
            self._policy.pins.remove(version)
            if before is not None and self._policy.in_host(version):
                self._policy.pin(version, before)
        self._carrier.advance()

    # ---- turns ---------------------------------------------------------------------------

    async def _keep_turns_fair(self) -> None:
        patience = self._limits.max_slot_wait_seconds
        while True:
            await asyncio.sleep(patience / 4)
            now = self._clock()
            late = [t for t, p in self._carrier.pending.items() if now - p.arrived > patience]
            for ticket in late:
                if (hot := self._policy.drain_for(ticket)) is not None:
                    logger.info("%s gives its slot up", self._carrier.versions[hot].reference)
            self._carrier.advance()

    # ---- views ---------------------------------------------------------------------------

    def snapshot(self) -> CacheSnapshot:
        """Both tiers as the controller sees them now."""
        return take_snapshot(self._policy, self._carrier.versions, self._carrier.hits)

    async def reconcile(self) -> EngineTruth:
        """Compare with what the engine holds and report what differs."""
        quiet = self._carrier.idle and not self._policy.in_transit()
        moves_before = self._carrier.moves_submitted
        believed = self._policy.residency()
        truth = await self._backend.truth()
        if quiet and self._carrier.moves_submitted == moves_before:
            differing = set(believed.gpu) ^ set(truth.gpu) | set(believed.host) ^ set(truth.host)
            if differing:
                self._observer.drifted(sorted(differing))
        return truth
