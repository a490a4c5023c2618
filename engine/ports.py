"""Ports of the controller: backend, resolver and observers. The fakes implement them too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.events import CacheEvent
from engine.policy.decisions import Move
from engine.types import AdapterVersion, VersionId


@dataclass(frozen=True, slots=True)
class Loaded:
    """A staged adapter and its bytes in host memory, of all ranks together.

    `guaranteed`: its moves can't fail, so a request may follow them without waiting for their
    results. `fell_back`: of this kind of adapter they may, as only vLLM's own, slower path can
    place it. A backend that has no other path for any adapter falls back for none.
    """

    host_bytes: int
    guaranteed: bool
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The result of one move. `error` is None if it succeeded; `slot` is that of an activation.

    `engine_died`: it failed because there is no engine any more.
    """

    seconds: float
    error: str | None = None
    slot: int | None = None
    engine_died: bool = False


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the engine itself holds, read back from it. Both tiers are in vLLM's LRU order.

    `partial`: what its ranks have in different places. It is in neither tier.
    """

    gpu: tuple[VersionId, ...]
    host: tuple[VersionId, ...]
    size_bytes: dict[VersionId, int] = field(default_factory=dict)
    in_step_loads: int = 0
    partial: tuple[VersionId, ...] = ()


class Backend(Protocol):
    """The two tiers of one engine. Its methods may be called concurrently."""

    async def load(self, version: AdapterVersion) -> Loaded:
        """Read and convert the files outside the engine loop, and stage the result.

        A staged adapter takes no place in either tier until a `Commit`.
        Raises AdapterLoadFailed or EngineUnavailable; then nothing is staged.
        """

    def discard(self, version: VersionId) -> None:
        """Drop what is staged of it."""

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        """Execute the moves in this order, between two engine steps; one result for each.

        Up to its first await this only sends them: every later call to the engine, from any
        caller, comes after the moves.

        A failed move changes neither tier, and the following ones are still tried. A commit
        consumes what is staged, even if it fails. A move fails that must not be decided: into a
        full tier, of an adapter that is there already, or of one that isn't there. Raises
        EngineUnavailable.
        """

    async def engine_state(self) -> EngineState:
        """Read back what is in which tier. Raises EngineUnavailable."""


class Resolver(Protocol):
    """Resolves references to versions."""

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        """The version that a reference means now, for this user. Raises the registry's errors.

        `user` is called only if the alias is split over several versions.
        """

    async def find(self, text: str) -> AdapterVersion:
        """The same, whatever state the version is in. Raises the registry's errors."""


class Observer(Protocol):
    """Receives every cache event as it happens. Must not raise or block.

    One that needs some kinds only may say so: `observed`, a set of their classes.
    """

    def on_event(self, event: CacheEvent) -> None: ...


class Observers:
    """Passes each event on to those of several observers that need its kind, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers: list[Observer] = []
        for each in observers:
            self._observers += each._observers if isinstance(each, Observers) else [each]
        self._calls: dict[type[CacheEvent], list[Callable[[CacheEvent], None]]] = {}

    def on_event(self, event: CacheEvent) -> None:
        calls = self._calls.get(type(event))
        if calls is None:
            calls = self._calls[type(event)] = self._calls_for(type(event))
        for call in calls:
            call(event)

    def _calls_for(self, kind: type[CacheEvent]) -> list[Callable[[CacheEvent], None]]:
        needed = (o for o in self._observers if kind in getattr(o, "observed", (kind,)))
        return [observer.on_event for observer in needed]
