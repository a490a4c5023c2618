"""Who may come in: leases that are never forgotten, limits of the line, and fair turns."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from engine.cache.event_reporter import EventReporter
from engine.cache.executor import DecisionExecutor
from engine.cache.lease import Hold, Revoke
from engine.cache.state import CacheState, PendingRequest
from engine.cache.wait_estimates import DrainPatience, RetryAfterEstimate
from engine.errors import EngineError, EngineUnavailable, QueueFull, SlotWaitTimeout
from engine.events import Refused
from engine.policy.decisions import Ticket
from engine.policy.policy import CachePolicy
from engine.ports import Observer
from engine.types import AdapterVersion, AdmissionLimits, CacheOutcome, Lease, VersionId


class Admission:
    """Leases of one engine after the other: what an earlier engine's request gives back is void."""

    def __init__(
        self,
        policy: CachePolicy,
        executor: DecisionExecutor,
        observer: Observer,
        reporter: EventReporter,
        state: CacheState,
        limits: AdmissionLimits,
    ) -> None:
        self._policy = policy
        self._executor = executor
        self._observer = observer
        self._limits = limits
        self._reporter = reporter
        self._state = state
        self.clock = clock = state.clock
        self._patience = DrainPatience(limits.max_slot_wait_seconds)
        self._retry_after = RetryAfterEstimate(clock, longest_seconds=limits.slot_timeout_seconds)
        self._tickets = itertools.count(1)
        self._revokes: dict[VersionId, list[Revoke]] = {}
        self._forced_out: set[VersionId] = set()
        self._idle = asyncio.Event()
        self._engine = 0
        self.closed: EngineUnavailable | None = None
        self.on_look: list[Callable[[], None]] = []

    def lease(
        self,
        version: AdapterVersion,
        revoke: Revoke | None = None,
        waited_seconds: float = 0.0,
    ) -> AbstractAsyncContextManager[Lease]:
        """See `CacheController.lease`. `waited_seconds`: elsewhere, before it came here."""
        return Hold(self, version, revoke, waited_seconds)

    async def enter(
        self, version: AdapterVersion, revoke: Revoke | None, waited_seconds: float
    ) -> tuple[Lease, int]:
        """The lease, and the engine that it is for."""
        engine = self._engine
        try:
            lease = await self.acquire(version, counted=True, waited_seconds=waited_seconds)
        except EngineError as error:
            self._observer.on_event(Refused(version, error))
            raise
        if revoke is not None:
            self._revokes.setdefault(version.id, []).append(revoke)
            if version.id in self._forced_out:  # granted before, told of it only now
                revoke()
        return lease, engine

    def leave(self, version: VersionId, revoke: Revoke | None, engine: int, seconds: float) -> None:
        """`seconds`: how long it was held."""
        if revoke is not None:
            self._revokes[version].remove(revoke)
            if not self._revokes[version]:
                del self._revokes[version]
        self._patience.record_lease(seconds)
        self.release(version, engine)

    def force_out(self, version: VersionId, gone: asyncio.Future[None]) -> None:
        """End every request that holds it, until it is gone."""
        self._forced_out.add(version)
        gone.add_done_callback(lambda _: self._forced_out.discard(version))
        for revoke in list(self._revokes.get(version, ())):
            revoke()

    async def acquire(
        self, version: AdapterVersion, *, counted: bool, waited_seconds: float = 0.0
    ) -> Lease:
        """To be given back with `release`. `counted`: it is a request, not an operator."""
        self._check(version)
        if self._policy.try_lease(version.id):
            return await self._lease_at_once(version, waited_seconds, counted=counted)
        engine = self._engine
        ticket, pending = self._arrive(version, counted=counted)
        try:
            async with asyncio.timeout(self._limits.slot_timeout_seconds - waited_seconds):
                outcome = await pending.granted
                await self._executor.wait_until_sent()
        except TimeoutError:
            self._abandon(ticket, pending, engine)
            waited = self._waited(pending) + waited_seconds
            raise SlotWaitTimeout(version.reference, waited) from None
        except BaseException:
            self._abandon(ticket, pending, engine)
            raise
        load_seconds = self._load_seconds(version, outcome)
        if outcome is not CacheOutcome.GPU_HIT:
            self._retry_after.record_grant(load_seconds)
        return Lease(version, outcome, self._waited(pending) + waited_seconds, load_seconds)

    async def _lease_at_once(
        self, version: AdapterVersion, waited_seconds: float, *, counted: bool
    ) -> Lease:
        """Without the line: nearly all requests come this way."""
        engine = self._engine
        self._state.add_version(version)
        self._state.record_use(version.id)
        if counted:
            self._reporter.report_immediate_lease(version)
        try:
            await self._executor.wait_until_sent()
        except BaseException:
            self.release(version.id, engine)
            raise
        return Lease(version, CacheOutcome.GPU_HIT, waited_seconds, load_seconds=0.0)

    def release(self, version: VersionId, engine: int | None = None) -> None:
        """`engine`: the one that the lease was for, if that may have gone meanwhile."""
        if engine not in (None, self._engine):
            return
        self._policy.release(version)
        self._state.record_use(version)
        self._executor.advance()
        if self._policy.is_idle():
            self._idle.set()

    async def wait_until_idle(self) -> None:
        """Until the next time that the last lease is given back and nobody waits."""
        self._idle.clear()
        await self._idle.wait()

    def close(self, why: EngineUnavailable) -> None:
        """The engine has gone: nobody comes in, and what is given back was the old one's."""
        self._engine += 1
        self.closed = why

    def open(self) -> None:
        self.closed = None

    def patience_seconds(self) -> float:
        """How long one waits before those who are in have to let it in."""
        return self._patience.patience_seconds()

    def retry_after_seconds(self, waiting: int) -> int:
        """When a line of that length should have passed."""
        return self._retry_after.retry_after_seconds(waiting)

    async def keep_turns_fair(self) -> None:
        """Runs until cancelled. Whoever is in `on_look` looks at what waits elsewhere."""
        while True:
            await asyncio.sleep(self._patience.check_seconds)
            for ticket, pending in self._state.overdue_requests(self.patience_seconds()):
                if (hot := self._policy.drain_for(ticket)) is not None:
                    self._reporter.report_drain(hot, pending.version)
            self._executor.advance()
            for look in self.on_look:
                look()

    # ---- the line ------------------------------------------------------------------------

    def _check(self, version: AdapterVersion) -> None:
        """What a request is refused for before it waits."""
        if self.closed is not None:
            raise self.closed
        limits, waiting = self._limits, self._policy.wait_queue
        if len(waiting) >= limits.max_waiting:
            seconds = self._retry_after.retry_after_seconds(len(waiting))
            raise QueueFull(limits.max_waiting, seconds)
        if waiting.count(version.id) >= limits.max_waiting_per_adapter:
            seconds = self._retry_after.retry_after_seconds(waiting.count(version.id))
            raise QueueFull(limits.max_waiting_per_adapter, seconds, version.adapter)
        self._policy.learn_size(version.id, version.size_bytes)

    def _arrive(self, version: AdapterVersion, *, counted: bool) -> tuple[Ticket, PendingRequest]:
        pending = PendingRequest(
            version=version,
            granted=asyncio.get_running_loop().create_future(),
            arrived=self.clock(),
            cause=self._state.cause_of_miss(version),
            counted=counted,
        )
        ticket = next(self._tickets)
        self._state.add_request(ticket, pending)
        self._policy.arrive(ticket, version.id)
        self._executor.advance()
        return ticket, pending

    def _abandon(self, ticket: Ticket, pending: PendingRequest, engine: int) -> None:
        granted = pending.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self.release(pending.version.id, engine)  # granted in the moment the client left
            return
        self._state.discard_request(ticket)
        self._policy.cancel(ticket)
        self._executor.advance()

    def _load_seconds(self, version: AdapterVersion, outcome: CacheOutcome) -> float:
        missed = outcome is CacheOutcome.MISS
        return self._state.load_seconds(version.id) if missed else 0.0

    def _waited(self, pending: PendingRequest) -> float:
        return self.clock() - pending.arrived
