"""Carries the policy's decisions out: starts loads, hands moves to the mover, answers waiters."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.cache.loader import Loader
from engine.cache.move_sender import MoveSender
from engine.cache.waiters import Waiters
from engine.errors import AdapterLoadFailed, AdapterTooLarge, EngineError, LoadFailure
from engine.events import (
    Drifted,
    EngineLost,
    Evicted,
    FellBack,
    LoadFailed,
    LoadStarted,
    LookedUp,
    MovedIn,
)
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
from engine.policy.miss_history import MissHistory
from engine.policy.policy import CachePolicy
from engine.ports import Backend, Loaded, MoveResult, Observer
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Pending:
    """One request that waits for its grant."""

    version: AdapterVersion
    granted: asyncio.Future[CacheOutcome]
    arrived: float
    cause: MissCause
    counted: bool


class DecisionExecutor:
    """One load per adapter; every load and move is reported back to the policy, however it ends."""

    def __init__(
        self,
        policy: CachePolicy,
        backend: Backend,
        loader: Loader,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self.pending: dict[Ticket, Pending] = {}
        self.versions: dict[VersionId, AdapterVersion] = {}
        self.load_seconds: dict[VersionId, float] = {}
        self.slots: dict[VersionId, int] = {}  # as far as the engine has said
        self.hits: Counter[VersionId] = Counter()
        self.history = MissHistory()
        self.in_host = Waiters()
        self.evicted = Waiters()
        self._policy = policy
        self._backend = backend
        self._loader = loader
        self._observer = observer
        self._clock = clock
        self._move_sender = MoveSender(backend, self._move_done)
        self._certain: set[VersionId] = set()  # whose moves can't fail
        self._last_used: dict[VersionId, float] = {}
        self._loads: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End the loads and moves under way."""
        await asyncio.gather(*self._cancel(), return_exceptions=True)

    def _cancel(self) -> list[asyncio.Task[None]]:
        for load in self._loads:
            load.cancel()
        return [*self._loads, *self._move_sender.cancel()]

    @property
    def idle(self) -> bool:
        """No move is on its way to the backend."""
        return self._move_sender.idle

    async def wait_until_sent(self) -> None:
        """Before a lease is used: its moves have to be in the engine's queue by then."""
        await self._move_sender.wait_until_sent()

    @property
    def moves_submitted(self) -> int:
        return self._move_sender.moves_submitted

    def advance(self) -> None:
        """Everything that can be done now."""
        while decided := self._decide():
            self.carry_out(decided)
        for version in self.evicted.versions():
            if self._policy.is_on_disk_only(version):  # its load failed, or it was never there
                self.evicted.resolve(version)

    def _decide(self) -> list[Decision]:
        """Until nothing more follows. A certain move counts as done, so its grants follow."""
        decided: list[Decision] = []
        while decisions := self._policy.advance():
            decided += decisions
            for decision in decisions:
                if isinstance(decision, Commit | Activate) and decision.version in self._certain:
                    self._policy.on_moved(decision.version)
        return decided

    def carry_out(self, decisions: Sequence[Decision]) -> None:
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
                    self.history.record_load(self.versions[version])
                    self.used(version)
                case Deactivate(version, reason, room_for):
                    self._left(version, Tier.GPU, reason, room_for)
                case Evict():
                    self._left_host(decision)

    def _start_load(self, version: VersionId) -> None:
        awaited_by = self._policy.wait_queue.count(version)
        self._observer.on_event(LoadStarted(self.versions[version], awaited_by))
        task = asyncio.create_task(self._load(self.versions[version]))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def _left_host(self, evict: Evict) -> None:
        version, reason = evict.version, evict.reason
        self._left(version, Tier.HOST, reason, evict.room_for)
        if evict.left_slot:
            capacity = reason is EvictionReason.CAPACITY
            slot_reason = EvictionReason.HOST_EVICTED if capacity else reason
            self._left(version, Tier.GPU, slot_reason, evict.room_for)
        self.evicted.resolve(version)

    def _left(
        self, version: VersionId, tier: Tier, reason: EvictionReason, room_for: VersionId | None
    ) -> None:
        if version not in self.versions:  # the engine held what nobody here ever knew
            return
        slot = self.slots.pop(version, None) if tier is Tier.GPU else None
        others = None if room_for is None else self.versions[room_for]
        idle = self.idle_seconds(version)
        self._observer.on_event(Evicted(self.versions[version], tier, reason, idle, others, slot))

    def used(self, version: VersionId) -> None:
        """A request begins or ends to hold it."""
        self._last_used[version] = self._clock()

    def idle_seconds(self, version: VersionId) -> float:
        """Since a request last held it, or else since it came into memory."""
        now = self._clock()
        return now - self._last_used.get(version, now)

    def oldest_wait_seconds(self) -> float:
        """Since the request arrived that waits longest; 0 if none does."""
        arrived = next((p.arrived for p in self.pending.values() if p.counted), None)
        return 0.0 if arrived is None else self._clock() - arrived

    def _grant(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        pending = self.pending.pop(ticket)
        if pending.granted.done():  # cancelled, but its task has not run since
            self._policy.release(version)
            return
        self.used(version)
        if pending.counted:
            missed = outcome is CacheOutcome.MISS
            self.hits[version] += not missed
            waited = self._clock() - pending.arrived
            cause = pending.cause if missed else None
            self._observer.on_event(LookedUp(pending.version, outcome, cause, waited))
        pending.granted.set_result(outcome)

    def leased_at_once(self, version: AdapterVersion, *, counted: bool) -> None:
        """It was in its slot, so that nobody had to wait."""
        self.versions[version.id] = version
        self.used(version.id)
        if counted:
            self.hits[version.id] += 1
            self._observer.on_event(LookedUp(version, CacheOutcome.GPU_HIT, None, 0.0))

    # ---- how loads and moves end ---------------------------------------------------------

    async def _load(self, version: AdapterVersion) -> None:
        started = self._clock()
        try:
            loaded = await self._loader.load(version)
        except EngineError as error:
            self._fail(version, Transition.DISK_TO_HOST, error)
        except Exception as error:  # a bug in a backend must not leave its waiters waiting
            logger.exception("loading %s broke", version.reference)
            name = type(error).__name__
            failure = AdapterLoadFailed(version.reference, name, LoadFailure.ENGINE)
            self._fail(version, Transition.DISK_TO_HOST, failure)
        else:
            self.load_seconds[version.id] = self._clock() - started
            self._is_staged(version, loaded)
        self.advance()

    def _is_staged(self, version: AdapterVersion, loaded: Loaded) -> None:
        (self._certain.add if loaded.certain else self._certain.discard)(version.id)
        if not loaded.certain:
            self._observer.on_event(FellBack(version))
        try:
            self._policy.on_loaded(version.id, loaded.host_bytes)
        except AdapterTooLarge as error:
            self._backend.discard(version.id)
            self._fail(version, Transition.DISK_TO_HOST, error)

    def _move_done(self, move: Move, result: MoveResult) -> None:
        if result.error is not None:
            self._move_failed(move, result.error, engine_gone=result.engine_gone)
        elif isinstance(move, Commit | Activate):
            self._moved_in(move, self.versions[move.version], result)
            if move.version not in self._certain:
                self._policy.on_moved(move.version)
        self.advance()

    def _moved_in(self, move: Move, version: AdapterVersion, result: MoveResult) -> None:
        if isinstance(move, Activate):
            if result.slot is not None:
                self.slots[version.id] = result.slot
            transition, seconds = Transition.HOST_TO_GPU, result.seconds
        else:
            transition = Transition.DISK_TO_HOST
            seconds = result.seconds + self.load_seconds[version.id]
        self._observer.on_event(MovedIn(version, transition, seconds, result.slot))
        if isinstance(move, Commit):
            self.in_host.resolve(version.id)

    def _move_failed(self, move: Move, reason: str, *, engine_gone: bool) -> None:
        logger.error("%s of version %d failed: %s", type(move).__name__, move.version, reason)
        moving_in = isinstance(move, Commit | Activate)
        if not moving_in or move.version in self._certain:
            if not engine_gone:  # else all that it held has gone with it
                self.drifted([move.version])
            return
        version = self.versions[move.version]
        to_slot = isinstance(move, Activate)
        transition = Transition.HOST_TO_GPU if to_slot else Transition.DISK_TO_HOST
        failure = AdapterLoadFailed(version.reference, reason, LoadFailure.ENGINE)
        self._fail(version, transition, failure)

    def _fail(self, version: AdapterVersion, transition: Transition, error: EngineError) -> None:
        self._observer.on_event(LoadFailed(version, transition, error))
        self.in_host.fail(version.id, error)
        self._fail_waiters(self._policy.on_failed(version.id), error)

    def _fail_waiters(self, tickets: Sequence[Ticket], error: EngineError) -> None:
        for ticket in tickets:
            pending = self.pending.pop(ticket)
            if not pending.granted.done():
                pending.granted.set_exception(error)

    def drifted(self, ids: Sequence[VersionId]) -> None:
        known = [self.versions[id_] for id_ in ids if id_ in self.versions]
        self._observer.on_event(Drifted(ids, known))

    async def on_engine_lost(self, error: EngineError) -> None:
        """Nothing that was asked of the engine will be answered any more, and nothing is left."""
        ended = self._cancel()
        self._observer.on_event(EngineLost(error))
        self.history.record_loss(self._policy.residency().host)
        self._certain.clear()
        self.slots.clear()
        self._fail_waiters(self._policy.cancel_all(), error)
        self._policy.reset()
        self.in_host.fail_all(error)
        self.evicted.resolve_all()
        await asyncio.gather(*ended, return_exceptions=True)
