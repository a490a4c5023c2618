"""Where an adapter was seen a moment ago: before the replicas' own reports say so."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from engine.types import VersionId

_SECONDS = 3.0  # a report is a second old, and another one on its way


class Sightings:
    """Bounded by what can be seen within that time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[VersionId, str], float] = OrderedDict()
        self._where: dict[VersionId, set[str]] = {}

    def note(self, version: VersionId, replicas: Iterable[str]) -> None:
        """It is in memory there now."""
        now = self._clock()
        for replica in replicas:
            self._seen[version, replica] = now
            self._seen.move_to_end((version, replica))
            self._where.setdefault(version, set()).add(replica)
        self._forget(now - _SECONDS)

    def of(self, version: VersionId) -> frozenset[str]:
        """The names of the replicas."""
        self._forget(self._clock() - _SECONDS)
        return frozenset(self._where.get(version, ()))

    def _forget(self, before: float) -> None:
        while self._seen:
            (version, replica), at = next(iter(self._seen.items()))
            if at > before:
                return
            del self._seen[version, replica]
            self._where[version].discard(replica)
            if not self._where[version]:
                del self._where[version]
