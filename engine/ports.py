"""What the controller needs of the world outside. Real and fake parts implement the same ports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.events import CacheEvent
from engine.policy.decisions import Move
from engine.types import AdapterVersion, VersionId


@dataclass(frozen=True, slots=True)
class Loaded:
    """A staged adapter and what it takes in host memory, all ranks together.

    `guaranteed`: nothing can go wrong with its moves any more, so a request may follow them without
    waiting for their results. False for what only vLLM's own, slower path can place.
    """

    host_bytes: int
    guaranteed: bool


@dataclass(frozen=True, slots=True)
class MoveResult:
    """How one move went. `error` is None when it succeeded; `slot` is where an activation went.

    `engine_gone`: there is nothing left that it could have been done to.
    """

    seconds: float
    error: str | None = None
    slot: int | None = None
    engine_gone: bool = False


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the engine itself holds, read back from it. Both tuples are in vLLM's LRU order."""

    gpu: tuple[VersionId, ...]
    host: tuple[VersionId, ...]
    size_bytes: dict[VersionId, int] = field(default_factory=dict)
    in_step_loads: int = 0


class Backend(Protocol):
    """The two tiers of one engine. Its methods may be called side by side."""

    async def load(self, version: AdapterVersion) -> Loaded:
        """Read and convert the files beside the engine loop and stage the result.

        A staged adapter takes no place in either tier until a `Commit`.
        Raises AdapterLoadFailed or EngineUnavailable; then nothing is staged.
        """

    def discard(self, version: VersionId) -> None:
        """Forget what is staged of it."""

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        """Carry the moves out in this order, between two steps; one result for each.

        Up to its first wait this only sends them: what the engine is asked for after that, by
        anyone, comes after the moves.

        A failed move changes neither tier, and the following ones are still tried. A commit takes
        what is staged, also when it fails. Fails for what must not be decided: a full tier, an
        adapter that is there already, or one that isn't there. Raises EngineUnavailable.
        """

    async def engine_state(self) -> EngineState:
        """Read back who is where. Raises EngineUnavailable."""


class Resolver(Protocol):
    """Knows what people call an adapter."""

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        """The version that a reference means now, for this user. Raises what the registry raises.

        The user is asked for only if the alias is split over several versions.
        """

    async def find(self, text: str) -> AdapterVersion:
        """The same in whatever state it is. Raises what the registry raises."""


class Observer(Protocol):
    """Receives every cache event as it happens. Must not raise or block."""

    def on_event(self, event: CacheEvent) -> None: ...


class Observers:
    """Passes each event on to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_event(self, event: CacheEvent) -> None:
        for observer in self._observers:
            observer.on_event(event)
