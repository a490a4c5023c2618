"""A controller over the fake backend, with what tests inspect."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from engine.cache.controller import CacheController
from engine.cache.load_gate import FitCheck
from engine.cache.loader import Loader
from engine.cache.tenant_memory import Tenancy
from engine.events import CacheEvent, Drifted, Evicted, FellBack, LoadFailed, LookedUp, MovedIn
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.decisions import Move
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.policy import CachePolicy
from engine.ports import EngineState, Loaded, MoveResult, Observer, Observers
from engine.types import (
    AdapterVersion,
    AdmissionLimits,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)

UNTIMED_SECONDS = 3600.0
"""As the longest wait: queues are checked twenty times in it, so none while a test runs."""


class Recorder:
    """An observer that records events."""

    def __init__(self) -> None:
        self.events: list[CacheEvent] = []
        self.lookups: list[tuple[CacheOutcome, MissCause | None]] = []
        self.evictions: list[tuple[VersionId, Tier, EvictionReason]] = []
        self.moves: list[tuple[VersionId, Transition]] = []
        self.failures: list[tuple[VersionId, Transition]] = []
        self.fallbacks: list[VersionId] = []
        self.drift: list[VersionId] = []
        self.waits: list[float] = []
        self.when_in_slot: Callable[[VersionId], object] = lambda version: None
        self.when_looked_up: Callable[[], object] = lambda: None

    def on_event(self, event: CacheEvent) -> None:
        self.events.append(event)
        match event:
            case LookedUp(outcome=outcome, cause=cause, wait_seconds=seconds):
                self.lookups.append((outcome, cause))
                self.waits.append(seconds)
                first, self.when_looked_up = self.when_looked_up, lambda: None
                first()
            case Evicted(version=version, tier=tier, reason=reason):
                self.evictions.append((version.id, tier, reason))
            case MovedIn(version=version, transition=transition):
                self.moves.append((version.id, transition))
                if transition is Transition.HOST_TO_GPU:
                    self.when_in_slot(version.id)
            case FellBack(version=version):
                self.fallbacks.append(version.id)
            case LoadFailed(version=version, transition=transition):
                self.failures.append((version.id, transition))
            case Drifted(ids=ids):
                self.drift.extend(ids)


class UnreliableBackend(FakeBackend):
    """`during_readback` runs while the engine's state is read; loads and moves may fail.

    `partial`: versions that only some of its ranks hold.
    """

    during_readback: Callable[[], Awaitable[object]] | None = None

    partial: Collection[VersionId] = ()
    round_trip: asyncio.Event | None = None
    load_breaks: Exception | None = None
    apply_breaks: Exception | None = None

    async def load(self, version: AdapterVersion) -> Loaded:
        if self.load_breaks is not None:
            raise self.load_breaks
        return await super().load(version)

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        if self.apply_breaks is not None:
            raise self.apply_breaks
        results = await super().apply(moves)
        if self.round_trip is not None:
            await self.round_trip.wait()
        return results

    async def engine_state(self) -> EngineState:
        if self.during_readback is not None:
            await self.during_readback()
        state = await super().engine_state()
        return replace(
            state,
            gpu=tuple(v for v in state.gpu if v not in self.partial),
            host=tuple(v for v in state.host if v not in self.partial),
            partial=tuple(self.partial),
        )


class Cache:
    """One controller over a fake backend, with what tests inspect."""

    def __init__(
        self,
        *,
        slots: int = 2,
        host: int = 4,
        host_bytes: int | None = None,
        load_seconds: float = 0.0,
        limits: AdmissionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        besides: Observer | None = None,
        tenancy: Tenancy | None = None,
        eviction_order: EvictionOrder | None = None,
        first_pause_seconds: float = 0.0,  # the next request attempts a failed load again
        fit: FitCheck | None = None,
    ) -> None:
        self.policy = CachePolicy(
            slots=slots, host_capacity=host, host_bytes=host_bytes, eviction_order=eviction_order
        )
        self.backend = UnreliableBackend(slots=slots, host_capacity=host, load_seconds=load_seconds)
        self.observer = Recorder()
        if limits is None:  # no timer that would hide a missing event
            limits = AdmissionLimits(max_slot_wait_seconds=UNTIMED_SECONDS)
        loader = Loader(self.backend, UncheckedFiles(), pauses=())
        observers = [self.observer, *([besides] if besides else [])]
        self.controller = CacheController(
            self.policy,
            self.backend,
            loader,
            Observers(*observers),
            limits,
            clock,
            tenancy,
            fit,
            first_pause_seconds,
        )

    async def use(self, version: AdapterVersion) -> CacheOutcome:
        async with self.controller.lease(version) as lease:
            return lease.outcome

    def check(self) -> None:
        """The engine holds what the policy thinks; nothing is leased or known to be used, but for
        what was prefetched.
        """
        self.policy.check()
        residency = self.policy.residency()
        assert set(residency.gpu) == set(self.backend.gpu)
        assert set(residency.host) == set(self.backend.host)
        assert not any(self.policy.lease_count(version) for version in residency.host)
        foresight = self.policy.foresight
        others = set(residency.host) - foresight.prefetched.keys()
        assert not any(foresight.next_use(version) is not None for version in others)
        assert not len(self.policy.wait_queue)
        assert not self.controller._state.pending_count()


@asynccontextmanager
async def running(cache: Cache) -> AsyncIterator[Cache]:
    task = asyncio.create_task(cache.controller.run())
    try:
        yield cache
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def adapter(number: int, name: str | None = None) -> AdapterVersion:
    return AdapterVersion(
        id=VersionId(number),
        adapter=name or f"a{number}",
        number=1,
        digest=f"{number:064x}",
        path=f"/adapters/{number}",
        rank=8,
        size_bytes=100,
    )


A, B, C, D, E = (adapter(n) for n in range(1, 6))


async def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Lets every task run until all of them wait for an event or for a timer."""
    for _ in range(100):
        await asyncio.sleep(0)
