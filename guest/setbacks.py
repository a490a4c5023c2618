"""Setbacks of a guest: what it can't do, said once, counted, and tried again ever more seldom."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from guest.failures import CantServe, Cause, Failure
from guest.metrics import GuestMetrics

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 60.0
_MOST_KEPT = 1000  # clients choose the names that fail


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of one version. `due`: when it may be tried again."""

    failure: Failure
    pause_seconds: float
    due: float


class Setbacks:
    """`first_pause_seconds`: from the first attempt of a version to the second."""

    def __init__(
        self,
        metrics: GuestMetrics,
        first_pause_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._first_pause_seconds = first_pause_seconds
        self._clock = clock
        self._said: dict[str, str] = {}  # the last detail, by name
        self._behind: dict[str, Cause] = {}  # by name
        self._refused: dict[str, Refusal] = {}  # by the version's reference

    def refuse_request(self, name: str, failure: Failure) -> None:
        """A client's."""
        self._metrics.count_refusal(failure.cause)
        self._say(name, failure)

    def fall_behind(self, name: str, failure: Failure) -> None:
        """A name that is served keeps its former version."""
        self._say(name, failure)
        self._behind[name] = failure.cause
        self._metrics.set_behind(self._behind.values())

    def settle(self, name: str) -> None:
        """A name that is what it should be, or is no longer served."""
        self._said.pop(name, None)
        if self._behind.pop(name, None) is not None:
            self._metrics.set_behind(self._behind.values())
            if not self._behind:
                logger.info("every name is up to date again")

    def check(self, reference: str) -> None:
        """Raises CantServe if the version was refused and is not due."""
        refusal = self._refused.get(reference)
        if refusal is not None and self._clock() < refusal.due:
            raise CantServe(refusal.failure)

    def refuse(self, reference: str, failure: Failure) -> None:
        """A version, unless the registry is at fault: then all of them come back with it."""
        if not failure.is_of_the_version:
            return
        before = self._refused.pop(reference, None)
        longer = self._first_pause_seconds if before is None else 2 * before.pause_seconds
        pause = min(longer, LONGEST_PAUSE_SECONDS)
        _forget_oldest(self._refused)
        self._refused[reference] = Refusal(failure, pause, self._clock() + pause)

    def accept(self, reference: str) -> None:
        """A version that is served."""
        self._refused.pop(reference, None)

    def _say(self, name: str, failure: Failure) -> None:
        """Once for all names that it concerns."""
        if failure.detail not in self._said.values():
            logger.warning("%s: %s (%s)", name, failure.detail, failure.cause)
        _forget_oldest(self._said)
        self._said[name] = failure.detail


def _forget_oldest(kept: dict[str, str] | dict[str, Refusal]) -> None:
    """Forgets the oldest."""
    while len(kept) >= _MOST_KEPT:
        del kept[next(iter(kept))]
