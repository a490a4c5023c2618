"""Oracle: eviction orders that know what no server can, to compare with."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable

from engine.policy.eviction_orders.base import KeyedOrder
from engine.simulation.agenda import Agenda
from engine.types import VersionId

_NEVER = float("inf")


class OracleOrder(KeyedOrder):
    """Belady's: the one whose next arrival is farthest leaves first.

    Under the server's own admission: what waits never leaves, whatever its order.
    """

    def __init__(self, arrivals: Iterable[tuple[float, VersionId]], agenda: Agenda) -> None:
        super().__init__()
        self._agenda = agenda
        self._times: defaultdict[VersionId, list[float]] = defaultdict(list)
        self._uses = 0
        for at, version in arrivals:
            self._times[version].append(at)

    def insert(self, version: VersionId) -> None:
        self._rank(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._rank(version)

    def _rank(self, version: VersionId) -> None:
        times = self._times[version]
        at = bisect_right(times, self._agenda.now)
        self._uses += 1
        self.put(version, (-(times[at] if at < len(times) else _NEVER), self._uses))


class FrequencyOracleOrder(KeyedOrder):
    """Knows how often each is asked for in the whole trace, past and to come, but not when.

    Where each arrival is drawn alone, no order can know more.
    """

    def __init__(self, versions: Iterable[VersionId]) -> None:
        super().__init__()
        self._counts = Counter(versions)
        self._uses = 0

    def insert(self, version: VersionId) -> None:
        self._uses += 1
        self.put(version, (self._counts[version], self._uses))

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self.insert(version)
