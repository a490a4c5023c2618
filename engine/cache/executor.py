"""Decision executor: starts loads, submits moves, grants leases, and reports back to the policy."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

from engine.cache.event_reporter import EventReporter
from engine.cache.loader import Loader
from engine.cache.move_sender import MoveSender
from engine.cache.state import CacheState
from engine.cache.waiters import Waiters, wait_within
from engine.errors import AdapterLoadFailed, AdapterTooLarge, EngineError
from engine.events import EngineLost, FellBack, LoadFailed, LoadStarted
from engine.policy.decisions import (
    Activate,
    Commit,
    Deactivate,
    Decision,
    Evict,
    Grant,
    Move,
    StartLoad,
    Ticket,
)
from engine.policy.policy import CachePolicy
from engine.ports import Backend, Loaded, MoveResult, Observer
from engine.types import AdapterVersion, CacheOutcome, LoadFailure, Transition, VersionId

logger = logging.getLogger(__name__)


class DecisionExecutor:
    """One load per adapter; every load and move is reported back to the policy, however it ends."""

    def __init__(
        self,
        policy: CachePolicy,
        backend: Backend,
        loader: Loader,
        observer: Observer,
        reporter: EventReporter,
        state: CacheState,
    ) -> None:
        self._policy = policy
        self._backend = backend
        self._loader = loader
        self._observer = observer
        self._reporter = reporter
        self._state = state
        self._move_sender = MoveSender(backend, self._on_move_done)
        self._in_host = Waiters()
        self._evicted = Waiters()
        self._loads: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Cancel the loads and moves in flight."""
        await asyncio.gather(*self._cancel(), return_exceptions=True)

    def _cancel(self) -> list[asyncio.Task[None]]:
        for load in self._loads:
            load.cancel()
        return [*self._loads, *self._move_sender.cancel()]

    @property
    def is_idle(self) -> bool:
        """No move is on its way to the backend."""
        return self._move_sender.is_idle

    @property
    def has_sent_all(self) -> bool:
        """`wait_until_sent` would not have to wait."""
        return self._move_sender.has_sent_all

    @property
    def moves_submitted(self) -> int:
        return self._move_sender.moves_submitted

    def record_moved(self) -> AbstractContextManager[set[VersionId]]:
        """The versions with a move in flight now, or submitted until the block ends."""
        return self._move_sender.record_moved()

    async def wait_until_sent(self) -> None:
        """Before a lease is used: its moves have to be in the engine's queue by then."""
        await self._move_sender.wait_until_sent()

    def wait_until_in_host(self, version: VersionId) -> asyncio.Future[None]:
        """Done at its next commit, or failed with the load's error. Shared, so shield it."""
        return self._in_host.wait_for(version)

    def wait_until_evicted(self, version: VersionId) -> asyncio.Future[None]:
        """Done once it is on disk only. Shared, so shield it."""
        return self._evicted.wait_for(version)

    def fail_eviction_waiters(self, version: VersionId, error: EngineError) -> None:
        self._evicted.fail(version, error)

    async def await_eviction(
        self, version: VersionId, evicted: asyncio.Future[None], seconds: float, error: EngineError
    ) -> None:
        """After that time its requests are admitted again, and all who wait for it get `error`."""
        try:
            await wait_within(evicted, seconds, error)
        except EngineError as raised:
            if raised is error:  # else another who waited has given up, and it may be wanted again
                self._policy.give_up_eviction(version)
                self.fail_eviction_waiters(version, error)
                self.advance()
            raise

    # ---- decisions -----------------------------------------------------------------------

    def advance(self) -> None:
        """Everything that can be done now."""
        while decided := self._decide():
            self.execute(decided)
        for version in self._evicted.versions():
            if self._policy.is_on_disk_only(version):  # its load failed, or it was never resident
                self._evicted.resolve(version)

    def _decide(self) -> list[Decision]:
        """Until nothing more follows. A guaranteed move counts as done, so its grants follow."""
        decided: list[Decision] = []
        while decisions := self._policy.advance():
            decided += decisions
            for decision in decisions:
                moves_in = isinstance(decision, Commit | Activate)
                if moves_in and self._state.is_guaranteed(decision.version):
                    self._policy.on_moved(decision.version)
        return decided

    def execute(self, decisions: Sequence[Decision]) -> None:
        """The moves are sent before a granted request can go on."""
        if moves := [decision for decision in decisions if isinstance(decision, Move)]:
            self._move_sender.submit(moves)
        for decision in decisions:
            match decision:
                case Grant(ticket, version, outcome):
                    self._grant(ticket, version, outcome)
                case StartLoad(version):
                    self._start_load(version)
                case Commit(version):
                    self._state.record_entry(version)
                case Deactivate():
                    self._reporter.report_deactivation(decision)
                case Evict(version):
                    self._reporter.report_eviction(decision)
                    self._evicted.resolve(version)

    def _start_load(self, version_id: VersionId) -> None:
        version = self._state.version(version_id)
        waiting = self._policy.wait_queue.count(version_id)
        self._observer.on_event(LoadStarted(version, waiting))
        task = asyncio.create_task(self._load(version))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def _grant(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        request = self._state.pop_request(ticket)
        if request.granted.done():  # cancelled, but its task has not run since
            self._policy.release(version)
            return
        if request.counted:
            self._reporter.report_grant(request, outcome)
        request.granted.set_result(outcome)

    # ---- results of loads and moves ------------------------------------------------------

    async def _load(self, version: AdapterVersion) -> None:
        started = self._state.clock()
        try:
            loaded = await self._loader.load(version, lambda: self._on_slow_load(version.id))
        except EngineError as error:
            self._fail(version, Transition.DISK_TO_HOST, error)
        except Exception as error:  # a bug in a backend must not leave its waiters waiting
            logger.exception("loading %s broke", version.reference)
            name = type(error).__name__
            failure = AdapterLoadFailed(version.reference, name, LoadFailure.ENGINE)
            self._fail(version, Transition.DISK_TO_HOST, failure)
        else:
            self._on_staged(version, loaded, self._state.clock() - started)
        self.advance()

    def _on_slow_load(self, version: VersionId) -> None:
        self._policy.on_slow_load(version)
        self.advance()

    def _on_staged(self, version: AdapterVersion, loaded: Loaded, seconds: float) -> None:
        self._state.record_load(version.id, seconds, guaranteed=loaded.guaranteed)
        if loaded.fell_back:
            self._observer.on_event(FellBack(version))
        try:
            self._policy.on_loaded(version.id, loaded.host_bytes, seconds)
        except AdapterTooLarge as error:
            self._backend.discard(version.id)
            self._fail(version, Transition.DISK_TO_HOST, error)

    def _on_move_done(self, move: Move, result: MoveResult) -> None:
        if result.error is not None:
            self._on_move_failed(move, result.error, engine_died=result.engine_died)
        elif isinstance(move, Commit | Activate):
            self._on_moved_in(move, self._state.version(move.version), result)
            if not self._state.is_guaranteed(move.version):
                self._policy.on_moved(move.version)
        self.advance()

    def _on_moved_in(
        self, move: Commit | Activate, version: AdapterVersion, result: MoveResult
    ) -> None:
        if isinstance(move, Activate) and result.slot is not None:
            self._state.set_slot(version.id, result.slot)
        self._reporter.report_entry(move, version, result)
        if isinstance(move, Commit):
            self._in_host.resolve(version.id)

    def _on_move_failed(self, move: Move, reason: str, *, engine_died: bool) -> None:
        logger.error("%s of version %d failed: %s", type(move).__name__, move.version, reason)
        moves_in = isinstance(move, Commit | Activate)
        if not moves_in or self._state.is_guaranteed(move.version):
            if not engine_died:  # a dead engine holds nothing that could have drifted
                self._reporter.report_drift([move.version])
            return
        version = self._state.version(move.version)
        to_slot = isinstance(move, Activate)
        transition = Transition.HOST_TO_GPU if to_slot else Transition.DISK_TO_HOST
        failure = AdapterLoadFailed(version.reference, reason, LoadFailure.ENGINE)
        self._fail(version, transition, failure)

    def _fail(self, version: AdapterVersion, transition: Transition, error: EngineError) -> None:
        self._observer.on_event(LoadFailed(version, transition, error))
        self._in_host.fail(version.id, error)
        self._fail_requests(self._policy.on_failed(version.id), error)

    def _fail_requests(self, tickets: Sequence[Ticket], error: EngineError) -> None:
        for ticket in tickets:
            request = self._state.pop_request(ticket)
            if not request.granted.done():
                request.granted.set_exception(error)

    async def on_engine_lost(self, error: EngineError) -> None:
        """No load or move in flight will be answered any more, and nothing is resident."""
        cancelled = self._cancel()
        self._observer.on_event(EngineLost(error))
        self._state.on_engine_lost(self._policy.residency().host)
        self._fail_requests(self._policy.cancel_all(), error)
        self._policy.reset()
        self._in_host.fail_all(error)
        self._evicted.resolve_all()
        await asyncio.gather(*cancelled, return_exceptions=True)
