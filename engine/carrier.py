"""Carries the policy's decisions out: starts loads, hands moves to the mover, answers waiters."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.decisions import (
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
from engine.errors import AdapterLoadFailed, EngineError
from engine.history import ResidencyHistory
from engine.mover import Mover
from engine.policy import CachePolicy
from engine.ports import Backend, MoveResult, Observer
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


class Carrier:
    """One load per adapter; every load and move is reported back to the policy, however it ends."""

    def __init__(
        self,
        policy: CachePolicy,
        backend: Backend,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self.pending: dict[Ticket, Pending] = {}
        self.versions: dict[VersionId, AdapterVersion] = {}
        self.load_seconds: dict[VersionId, float] = {}
        self.hits: Counter[VersionId] = Counter()
        self.history = ResidencyHistory()
        self._policy = policy
        self._backend = backend
        self._observer = observer
        self._clock = clock
        self._mover = Mover(backend, self._move_done)
        self._certain: set[VersionId] = set()  # whose moves can't fail
        self._loads: set[asyncio.Task[None]] = set()
        self._host_arrivals: dict[VersionId, asyncio.Future[None]] = {}

    async def stop(self) -> None:
        """End the loads and moves under way."""
        loads = list(self._loads)
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        await self._mover.stop()

    @property
    def idle(self) -> bool:
        """No move is on its way to the backend."""
        return self._mover.idle

    async def moves_are_sent(self) -> None:
        """Before a lease is used: its moves have to be in the engine's queue by then."""
        await self._mover.sent()

    @property
    def moves_submitted(self) -> int:
        return self._mover.submitted

    def advance(self) -> None:
        """Everything that can be done now."""
        while decided := self._decide():
            self.carry_out(decided)

    def _decide(self) -> list[Decision]:
        """Until nothing more follows. A certain move counts as done, so its grants follow."""
        decided: list[Decision] = []
        while decisions := self._policy.advance():
            decided += decisions
            for decision in decisions:
                if isinstance(decision, Commit | Activate) and decision.version in self._certain:
                    self._policy.moved(decision.version)
        return decided

    def carry_out(self, decisions: Sequence[Decision]) -> None:
        """The moves are sent before a granted request can go on."""
        if moves := [decision for decision in decisions if isinstance(decision, Move)]:
            self._mover.submit(moves)
        for decision in decisions:
            match decision:
                case Grant(ticket, version, outcome):
                    self._grant(ticket, version, outcome)
                case StartLoad(version):
                    self._start_load(version)
                case Commit(version):
                    self.history.entered(self.versions[version])
                case Deactivate(version, reason):
                    self._observer.evicted(self.versions[version], Tier.GPU, reason)
                case Evict(version, reason, left_slot):
                    self._count_eviction(self.versions[version], reason, left_slot)

    def _start_load(self, version: VersionId) -> None:
        task = asyncio.create_task(self._load(self.versions[version]))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def arrival_in_host(self, version: VersionId) -> None:
        """Until the next load of this adapter has ended in the host tier; raises if it fails."""
        loop = asyncio.get_running_loop()
        arrival = self._host_arrivals.setdefault(version, loop.create_future())
        await asyncio.shield(arrival)

    def _count_eviction(
        self, version: AdapterVersion, reason: EvictionReason, left_slot: bool
    ) -> None:
        self._observer.evicted(version, Tier.HOST, reason)
        if left_slot:
            requested = reason is EvictionReason.REQUESTED
            slot_reason = reason if requested else EvictionReason.HOST_EVICTED
            self._observer.evicted(version, Tier.GPU, slot_reason)

    def _grant(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        pending = self.pending.pop(ticket)
        if pending.granted.done():  # cancelled, but its task has not run since
            self._policy.release(version)
            return
        if pending.counted:
            self.hits[version] += outcome is not CacheOutcome.MISS
            waited = self._clock() - pending.arrived
            self._observer.looked_up(outcome, pending.cause, waited)
        pending.granted.set_result(outcome)

    # ---- how loads and moves end ---------------------------------------------------------

    async def _load(self, version: AdapterVersion) -> None:
        started = self._clock()
        try:
            certain = await self._backend.load(version)
        except EngineError as error:
            self._fail(version, Transition.DISK_TO_HOST, error)
        except Exception as error:  # a bug in a backend must not leave its waiters waiting
            logger.exception("loading %s broke", version.reference)
            failure = AdapterLoadFailed(version.reference, type(error).__name__)
            self._fail(version, Transition.DISK_TO_HOST, failure)
        else:
            self.load_seconds[version.id] = self._clock() - started
            (self._certain.add if certain else self._certain.discard)(version.id)
            self._policy.loaded(version.id)
        self.advance()

    def _move_done(self, move: Move, result: MoveResult) -> None:
        version = self.versions[move.version]
        if result.error is not None:
            self._move_failed(move, version, result.error)
        elif isinstance(move, Commit | Activate):
            self._moved_in(move, version, result.seconds)
            if move.version not in self._certain:
                self._policy.moved(version.id)
        self.advance()

    def _moved_in(self, move: Move, version: AdapterVersion, seconds: float) -> None:
        if isinstance(move, Activate):
            self._observer.moved_in(version, Transition.HOST_TO_GPU, seconds)
            return
        seconds += self.load_seconds[version.id]
        self._observer.moved_in(version, Transition.DISK_TO_HOST, seconds)
        self._arrived_in_host(version.id, None)

    def _move_failed(self, move: Move, version: AdapterVersion, reason: str) -> None:
        logger.error("%s of %s failed: %s", type(move).__name__, version.reference, reason)
        moving_in = isinstance(move, Commit | Activate)
        if moving_in and move.version not in self._certain:
            to_slot = isinstance(move, Activate)
            transition = Transition.HOST_TO_GPU if to_slot else Transition.DISK_TO_HOST
            self._fail(version, transition, AdapterLoadFailed(version.reference, reason))
        else:
            self._observer.drifted([version.id])

    def _fail(self, version: AdapterVersion, transition: Transition, error: EngineError) -> None:
        self._observer.load_failed(version, transition, error.detail)
        self._arrived_in_host(version.id, error)
        for ticket in self._policy.failed(version.id):
            pending = self.pending.pop(ticket)
            if not pending.granted.done():
                pending.granted.set_exception(error)

    def _arrived_in_host(self, version: VersionId, error: EngineError | None) -> None:
        arrival = self._host_arrivals.pop(version, None)
        if arrival is None or arrival.done():
            return
        if error is None:
            arrival.set_result(None)
        else:
            arrival.set_exception(error)
