"""Admission control: leases, queue limits, fairness."""

import asyncio
import itertools
from collections.abc import Callable
from functools import partial

from engine.cache.drains import Drains
from engine.cache.event_reporter import EventReporter
from engine.cache.executor import DecisionExecutor
from engine.cache.lease import LeaseRequest
from engine.cache.revocations import Revocations
from engine.cache.state import CacheState, PendingRequest
from engine.cache.wait_estimates import RetryAfterEstimate
from engine.errors import EngineUnavailable, QueueFull, SlotWaitTimeout
from engine.policy.decisions import Ticket
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, AdmissionLimits, CacheOutcome, Lease, VersionId


class Admission:
    """The last stage of a lease. Once the lease's engine has died, its release has no effect."""

    def __init__(
        self,
        policy: CachePolicy,
        executor: DecisionExecutor,
        reporter: EventReporter,
        state: CacheState,
        limits: AdmissionLimits,
    ) -> None:
        self._policy = policy
        self._executor = executor
        self._reporter = reporter
        self._state = state
        self._limits = limits
        self._clock = state.clock
        self._drains = Drains(
            policy, state.overdue_requests, reporter.report_drain, state.clock, limits
        )
        self._retry_after = RetryAfterEstimate(
            state.clock, longest_seconds=limits.slot_timeout_seconds
        )
        self._tickets = itertools.count(1)
        self._revocations = Revocations()
        self._idle = asyncio.Event()
        self._engines_lost = 0
        self._closed: EngineUnavailable | None = None
        self._periodic_checks: list[Callable[[], None]] = []

    # ---- leases --------------------------------------------------------------------------

    async def enter(self, request: LeaseRequest) -> Callable[[], None]:
        """See `LeaseStage`."""
        engine = self._engines_lost
        request.lease = await self._acquire(request)
        if request.revoke is not None:
            self._revocations.add(request.version.id, request.revoke)
        self._drains.record_lease(request.version.id, request)
        return partial(self._exit, request, engine)

    def enters_immediately(self, request: LeaseRequest) -> bool:
        """See `LeaseStage`."""
        return self._executor.has_sent_all and self._policy.can_lease(request.version.id)

    def _exit(self, request: LeaseRequest, engine: int) -> None:
        version = request.version.id
        self._drains.record_release(version, request, counted=request.counted)
        if request.revoke is not None:
            self._revocations.remove(version, request.revoke)
        self._release(version, engine)

    def revoke_leases(self, version: VersionId, until: asyncio.Future[None]) -> None:
        """End every request that holds it, until then."""
        self._revocations.revoke(version, until)

    async def _acquire(self, request: LeaseRequest) -> Lease:
        version, waited_before = request.version, request.waited_seconds
        self._check(version)
        if self._policy.try_lease(version.id):
            return await self._lease_immediately(request)
        engine = self._engines_lost
        ticket, pending = self._arrive(request)
        try:
            async with asyncio.timeout(self._limits.slot_timeout_seconds - waited_before):
                outcome = await pending.granted
                await self._executor.wait_until_sent()
        except TimeoutError:
            self._abandon(ticket, pending, engine)
            waited = self._wait_seconds(pending) + waited_before
            raise SlotWaitTimeout(version.reference, waited) from None
        except BaseException:
            self._abandon(ticket, pending, engine)
            raise
        missed = outcome is CacheOutcome.MISS
        load_seconds = self._state.load_seconds(version.id) if missed else 0.0
        if outcome is not CacheOutcome.GPU_HIT:
            self._retry_after.record_grant(load_seconds)
        return Lease(version, outcome, self._wait_seconds(pending) + waited_before, load_seconds)

    async def _lease_immediately(self, request: LeaseRequest) -> Lease:
        """Past the queue, as nearly all requests."""
        engine, version = self._engines_lost, request.version
        self._state.add_version(version)
        if request.counted:
            self._reporter.report_immediate_lease(version)
        try:
            await self._executor.wait_until_sent()
        except BaseException:
            self._release(version.id, engine)
            raise
        return Lease(version, CacheOutcome.GPU_HIT, request.waited_seconds, load_seconds=0.0)

    def _release(self, version: VersionId, engine: int) -> None:
        if engine != self._engines_lost:
            return
        self._policy.release(version)
        self._state.record_use(version)
        self._executor.advance()
        if self._policy.is_idle():
            self._idle.set()

    # ---- the engine ----------------------------------------------------------------------

    async def wait_until_idle(self) -> None:
        """Until the next time that the last lease is released and no request waits."""
        self._idle.clear()
        await self._idle.wait()

    @property
    def closed(self) -> EngineUnavailable | None:
        """Why no request is admitted, if that is so."""
        return self._closed

    def close(self, why: EngineUnavailable) -> None:
        """The engine has died: admit no request, and ignore the release of its leases."""
        self._engines_lost += 1
        self._closed = why

    def open(self) -> None:
        self._closed = None

    # ---- fairness ------------------------------------------------------------------------

    def patience_seconds(self) -> float:
        """How long a request waits before a hot adapter is drained for it."""
        return self._drains.patience_seconds()

    def retry_after_seconds(self, waiting: int) -> int:
        """When a queue of that length should have passed."""
        return self._retry_after.retry_after_seconds(waiting)

    def add_periodic_check(self, check: Callable[[], None]) -> None:
        """`run` calls it as often as it checks its own queue."""
        self._periodic_checks.append(check)

    async def run(self) -> None:
        """Drain hot adapters for requests that have waited too long. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._drains.check_seconds)
            self.check_drains()
            for check in self._periodic_checks:
                check()

    def check_drains(self) -> None:
        """Begin those that are due, and give up those that take too long."""
        self._drains.check()
        self._executor.advance()

    # ---- the queue -----------------------------------------------------------------------

    def _check(self, version: AdapterVersion) -> None:
        """What a request is refused for before it waits."""
        if self._closed is not None:
            raise self._closed
        limits, queue = self._limits, self._policy.wait_queue
        waiting = len(queue)
        if waiting >= limits.max_waiting:
            raise QueueFull(limits.max_waiting, self.retry_after_seconds(waiting))
        if waiting and queue.count(version.id) >= limits.max_waiting_per_adapter:
            seconds = self.retry_after_seconds(queue.count(version.id))
            raise QueueFull(limits.max_waiting_per_adapter, seconds, version.adapter)
        self._policy.learn_size(version.id, version.size_bytes)

    def _arrive(self, request: LeaseRequest) -> tuple[Ticket, PendingRequest]:
        version = request.version
        pending = PendingRequest(
            version=version,
            granted=asyncio.get_running_loop().create_future(),
            arrived=self._clock(),
            cause=self._state.cause_of_miss(version),
            counted=request.counted,
        )
        ticket = next(self._tickets)
        self._state.add_request(ticket, pending)
        self._policy.arrive(ticket, version.id)
        self._executor.advance()
        return ticket, pending

    def _abandon(self, ticket: Ticket, pending: PendingRequest, engine: int) -> None:
        granted = pending.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._release(pending.version.id, engine)  # granted just before it was cancelled
            return
        self._state.discard_request(ticket)
        self._policy.cancel(ticket)
        self._executor.advance()

    def _wait_seconds(self, pending: PendingRequest) -> float:
        return self._clock() - pending.arrived
