"""Load gate: refuses immediately what this engine can't load now, with the next attempt's time.

An engine's own troubles end with their cause. So a failed load is remembered only until the next
attempt is due: the pause doubles from one failure to the next, up to a few seconds.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

from engine.cache.lease import LeaseRequest
from engine.errors import AdapterLoadFailed
from engine.events import CacheEvent, EngineReady, LoadFailed, MovedIn
from engine.ports import Observer
from engine.types import AdapterVersion, LoadFailure, Transition, VersionId

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 8.0
_REMEMBERED = 4096


class FitCheck(Protocol):
    """What this engine serves at all, whatever happens around it."""

    def check(self, version: AdapterVersion) -> None:
        """By the registry's facts about the version. Raises AdapterLoadFailed."""


class NullFitCheck:
    """For an engine that serves everything."""

    def check(self, version: AdapterVersion) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Failure:
    error: AdapterLoadFailed
    pause_seconds: float
    until: float


class LoadGate:
    """A stage of leases of what is not in memory, and an observer of the loads."""

    observed = frozenset({LoadFailed, MovedIn, EngineReady})

    def __init__(
        self,
        fit: FitCheck,
        observer: Observer,
        clock: Callable[[], float],
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._fit = fit
        self._observer = observer
        self._clock = clock
        self._first_pause_seconds = first_pause_seconds
        self._failures: LRUCache[VersionId, _Failure] = LRUCache(_REMEMBERED)

    def enters_immediately(self, request: LeaseRequest) -> bool:
        """See `LeaseStage`."""
        return True

    async def enter(self, request: LeaseRequest) -> Callable[[], None]:
        """See `LeaseStage`. Raises what `check` raises."""
        self.check(request.version)
        return _nothing

    def check(self, version: AdapterVersion) -> None:
        """Raises AdapterLoadFailed: that of the last attempt, or that of a fit check."""
        failure = self._failures.get(version.id)
        if failure is not None and (seconds := failure.until - self._clock()) > 0:
            error = copy.copy(failure.error)
            error.retry_after_seconds = _whole(seconds)
            raise error
        try:
            self._fit.check(version)
        except AdapterLoadFailed as error:
            event = LoadFailed(version, Transition.DISK_TO_HOST, error)
            self.on_event(event)
            self._observer.on_event(event)
            raise

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LoadFailed(version, Transition.DISK_TO_HOST, AdapterLoadFailed() as error):
                self._remember(version.id, error)
            case MovedIn(version, Transition.DISK_TO_HOST):
                self._failures.pop(version.id, None)
            case EngineReady():
                self._failures.clear()

    def _remember(self, version: VersionId, error: AdapterLoadFailed) -> None:
        if error.failure is LoadFailure.STALLED or not self._first_pause_seconds:
            return  # refused without an attempt, for as long as the read hangs
        before = self._failures.get(version)
        pause = self._first_pause_seconds if before is None else 2 * before.pause_seconds
        pause = min(pause, LONGEST_PAUSE_SECONDS)
        error.retry_after_seconds = _whole(pause)
        self._failures[version] = _Failure(error, pause, self._clock() + pause)


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _nothing() -> None:
    pass
