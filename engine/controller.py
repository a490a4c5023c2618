"""Carries the policy's decisions out: one load per adapter, fair turns, no lease forgotten."""

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.decisions import Activate, Commit, Deactivate, Evict, Grant, Move, StartLoad, Ticket
from engine.errors import AdapterLoadFailed, EngineError, QueueFull, SlotWaitTimeout
from engine.history import ResidencyHistory
from engine.mover import Mover
from engine.policy import CachePolicy
from engine.ports import Backend, EngineTruth, MoveResult, Observer
from engine.snapshot import CacheSnapshot, take_snapshot
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    Lease,
    MissCause,
    Tier,
    Transition,
    VersionId,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how many requests may wait for a slot."""

    max_slot_wait_seconds: float = 2.0  # then a hot adapter has to let the waiter in
    slot_timeout_seconds: float = 120.0  # then the request is given up
    max_waiting: int = 1024


@dataclass(slots=True)
class _Pending:
    version: AdapterVersion
    granted: asyncio.Future[CacheOutcome]
    arrived: float
    cause: MissCause
    counted: bool


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
        self._mover = Mover(backend, self._move_done)
        self._tickets = itertools.count(1)
        self._pending: dict[Ticket, _Pending] = {}
        self._versions: dict[VersionId, AdapterVersion] = {}
        self._load_seconds: dict[VersionId, float] = {}
        self._hits: Counter[VersionId] = Counter()
        self._history = ResidencyHistory()
        self._loads: set[asyncio.Task[None]] = set()
        self._host_arrivals: dict[VersionId, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Carry decisions out and keep turns fair, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._mover.run())
                tasks.create_task(self._keep_turns_fair())
        finally:
            for load in self._loads:
                load.cancel()

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
        except TimeoutError:
            self._abandon(ticket, pending)
            raise SlotWaitTimeout(version.reference, self._waited(pending)) from None
        except BaseException:
            self._abandon(ticket, pending)
            raise
        load_seconds = self._load_seconds.get(version.id, 0.0)
        missed = outcome is CacheOutcome.MISS
        return Lease(version, outcome, self._waited(pending), load_seconds if missed else 0.0)

    def _arrive(self, version: AdapterVersion, *, counted: bool) -> tuple[Ticket, _Pending]:
        if len(self._policy.waiting) >= self._limits.max_waiting:
            raise QueueFull(self._limits.max_waiting, retry_after_seconds=1)
        pending = _Pending(
            version=version,
            granted=asyncio.get_running_loop().create_future(),
            arrived=self._clock(),
            cause=self._history.cause_of_miss(version),
            counted=counted,
        )
        ticket = next(self._tickets)
        self._pending[ticket] = pending
        self._versions[version.id] = version
        self._policy.arrive(ticket, version.id)
        self._advance()
        return ticket, pending

    def _abandon(self, ticket: Ticket, pending: _Pending) -> None:
        granted = pending.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._release(pending.version.id)  # granted in the very moment the client left
            return
        self._pending.pop(ticket, None)
        self._policy.cancel(ticket)
        self._advance()

    def _release(self, version: VersionId) -> None:
        self._policy.release(version)
        self._advance()

    def _waited(self, pending: _Pending) -> float:
        return self._clock() - pending.arrived

    # ---- what operators ask for ----------------------------------------------------------

    def prefetch(self, version: AdapterVersion) -> None:
        """Bring it into host memory in the background, when there is room."""
        self._versions[version.id] = version
        self._policy.prefetch(version.id)
        self._advance()

    async def pin(self, version: AdapterVersion, tier: Tier) -> None:
        """Bring it in and keep it. Returns when it is there; if that fails it is not pinned.

        Raises PinBudgetExceeded, or what `lease` raises.
        """
        before = self._policy.pins.tier_of(version.id)
        self._policy.pin(version.id, tier)
        try:
            if tier is Tier.GPU:
                await self._acquire(version, counted=False)
                self._release(version.id)
            else:
                await self._bring_to_host(version)
        except BaseException:
            self._policy.pins.remove(version.id)
            if before is not None:
                self._policy.pin(version.id, before)
            raise

    def unpin(self, version: AdapterVersion) -> Tier:
        """Let it be evicted again. Raises NotPinned."""
        tier = self._policy.pins.remove(version.id)
        self._advance()
        return tier

    def evict(self, version: AdapterVersion) -> bool:
        """Out of both tiers. False if it was on disk only. Raises AdapterPinned, AdapterInUse."""
        decisions = self._policy.evict(version.id)
        for decision in decisions:
            self._carry_out(decision)
        self._advance()
        return bool(decisions)

    async def _bring_to_host(self, version: AdapterVersion) -> None:
        if self._policy.in_host(version.id):
            return
        loop = asyncio.get_running_loop()
        arrival = self._host_arrivals.setdefault(version.id, loop.create_future())
        self.prefetch(version)
        await asyncio.shield(arrival)

    # ---- carrying decisions out ----------------------------------------------------------

    def _advance(self) -> None:
        while decisions := self._policy.advance():
            for decision in decisions:
                self._carry_out(decision)

    def _carry_out(self, decision: object) -> None:
        match decision:
            case Grant(ticket, version, outcome):
                self._grant(ticket, version, outcome)
            case StartLoad(version):
                task = asyncio.create_task(self._load(self._versions[version]))
                self._loads.add(task)
                task.add_done_callback(self._loads.discard)
            case Commit() | Activate():
                self._mover.submit(decision)
            case Deactivate(version, reason):
                self._observer.evicted(self._versions[version], Tier.GPU, reason)
                self._mover.submit(decision)
            case Evict(version, reason, left_slot):
                self._count_eviction(self._versions[version], reason, left_slot)
                self._mover.submit(decision)

    def _count_eviction(
        self, version: AdapterVersion, reason: EvictionReason, left_slot: bool
    ) -> None:
        self._observer.evicted(version, Tier.HOST, reason)
        if left_slot:
            requested = reason is EvictionReason.REQUESTED
            slot_reason = reason if requested else EvictionReason.HOST_EVICTED
            self._observer.evicted(version, Tier.GPU, slot_reason)

    def _grant(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        pending = self._pending.pop(ticket)
        if pending.granted.done():  # cancelled, but its task has not run since
            self._policy.release(version)
            return
        if pending.counted:
            self._hits[version] += outcome is not CacheOutcome.MISS
            self._observer.looked_up(outcome, pending.cause, self._waited(pending))
        pending.granted.set_result(outcome)

    async def _load(self, version: AdapterVersion) -> None:
        started = self._clock()
        try:
            await self._backend.load(version)
        except EngineError as error:
            self._fail(version, Transition.DISK_TO_HOST, error)
        except Exception as error:  # a bug in a backend must not leave its waiters waiting
            logger.exception("loading %s broke", version.reference)
            failure = AdapterLoadFailed(version.reference, type(error).__name__)
            self._fail(version, Transition.DISK_TO_HOST, failure)
        else:
            self._load_seconds[version.id] = self._clock() - started
            self._policy.loaded(version.id)
        self._advance()

    def _move_done(self, move: Move, result: MoveResult) -> None:
        version = self._versions[move.version]
        if result.error is not None:
            self._move_failed(move, version, result.error)
        elif isinstance(move, Commit):
            self._policy.moved(version.id)
            self._history.entered(version)
            seconds = self._load_seconds[version.id] + result.seconds
            self._observer.moved_in(version, Transition.DISK_TO_HOST, seconds)
            self._host_arrival(version.id, None)
        elif isinstance(move, Activate):
            self._policy.moved(version.id)
            self._observer.moved_in(version, Transition.HOST_TO_GPU, result.seconds)
        self._advance()

    def _move_failed(self, move: Move, version: AdapterVersion, reason: str) -> None:
        logger.error("%s of %s failed: %s", type(move).__name__, version.reference, reason)
        if isinstance(move, Commit | Activate):
            to_slot = isinstance(move, Activate)
            transition = Transition.HOST_TO_GPU if to_slot else Transition.DISK_TO_HOST
            self._fail(version, transition, AdapterLoadFailed(version.reference, reason))
        else:
            self._observer.drifted([version.id])

    def _fail(self, version: AdapterVersion, transition: Transition, error: EngineError) -> None:
        self._observer.load_failed(version, transition, error.detail)
        self._host_arrival(version.id, error)
        for ticket in self._policy.failed(version.id):
            pending = self._pending.pop(ticket)
            if not pending.granted.done():
                pending.granted.set_exception(error)

    def _host_arrival(self, version: VersionId, error: EngineError | None) -> None:
        arrival = self._host_arrivals.pop(version, None)
        if arrival is None or arrival.done():
            return
        if error is None:
            arrival.set_result(None)
        else:
            arrival.set_exception(error)

    async def _keep_turns_fair(self) -> None:
        patience = self._limits.max_slot_wait_seconds
        while True:
            await asyncio.sleep(patience / 4)
            now = self._clock()
            late = [t for t, p in self._pending.items() if now - p.arrived > patience]
            for ticket in late:
                if (hot := self._policy.drain_for(ticket)) is not None:
                    logger.info("%s gives its slot up", self._versions[hot].reference)
            self._advance()

    # ---- views ---------------------------------------------------------------------------

    def snapshot(self) -> CacheSnapshot:
        """Both tiers as the controller sees them now."""
        return take_snapshot(self._policy, self._versions, self._hits)

    async def reconcile(self) -> EngineTruth:
        """Compare with what the engine holds and report what differs."""
        quiet = self._mover.idle and not self._policy.in_transit()
        believed = self._policy.residency()
        truth = await self._backend.truth()
        if quiet and self._mover.idle and believed == self._policy.residency():
            differing = set(believed.gpu) ^ set(truth.gpu) | set(believed.host) ^ set(truth.host)
            if differing:
                self._observer.drifted(sorted(differing))
        return truth
