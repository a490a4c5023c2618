"""Recent residency: replicas that just loaded or served an adapter, before their reports say so."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from engine.types import VersionId

_SECONDS = 3.0  # a report may be a second old, and the next one on its way


class RecentResidency:
    """Entries expire after `_SECONDS`, which also bounds their number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[VersionId, str], float] = OrderedDict()
        self._where: dict[VersionId, set[str]] = {}

    def record(self, version: VersionId, replicas: Iterable[str]) -> None:
        """The version is in memory on these replicas now."""
        now = self._clock()
        for replica in replicas:
            self._seen[version, replica] = now
            self._seen.move_to_end((version, replica))
            self._where.setdefault(version, set()).add(replica)
        self._forget(now - _SECONDS)

    def replicas_with(self, version: VersionId) -> frozenset[str]:
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
