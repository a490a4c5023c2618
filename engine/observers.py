"""Several who watch the cache, and one who needs to hear of little."""

from collections.abc import Sequence

from engine.errors import EngineError
from engine.ports import Observer
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    MissCause,
    Tier,
    Transition,
    VersionId,
)


class QuietObserver:
    """To be derived from by those who care for some of it only."""

    def looked_up(self, outcome: CacheOutcome, cause: MissCause, wait_seconds: float) -> None:
        return

    def evicted(self, version: AdapterVersion, tier: Tier, reason: EvictionReason) -> None:
        return

    def moved_in(self, version: AdapterVersion, transition: Transition, seconds: float) -> None:
        return

    def fell_back(self, version: AdapterVersion) -> None:
        return

    def load_failed(
        self, version: AdapterVersion, transition: Transition, error: EngineError
    ) -> None:
        return

    def drifted(self, versions: Sequence[VersionId]) -> None:
        return


class Observers:
    """Tells each of them, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def looked_up(self, outcome: CacheOutcome, cause: MissCause, wait_seconds: float) -> None:
        for observer in self._observers:
            observer.looked_up(outcome, cause, wait_seconds)

    def evicted(self, version: AdapterVersion, tier: Tier, reason: EvictionReason) -> None:
        for observer in self._observers:
            observer.evicted(version, tier, reason)

    def moved_in(self, version: AdapterVersion, transition: Transition, seconds: float) -> None:
        for observer in self._observers:
            observer.moved_in(version, transition, seconds)

    def fell_back(self, version: AdapterVersion) -> None:
        for observer in self._observers:
            observer.fell_back(version)

    def load_failed(
        self, version: AdapterVersion, transition: Transition, error: EngineError
    ) -> None:
        for observer in self._observers:
            observer.load_failed(version, transition, error)

    def drifted(self, versions: Sequence[VersionId]) -> None:
        for observer in self._observers:
            observer.drifted(versions)
