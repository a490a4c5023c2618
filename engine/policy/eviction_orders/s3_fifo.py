"""S3-FIFO: what is asked for once leaves soon; what came back stays for rounds of a queue."""

from collections import OrderedDict

from engine.policy.eviction_orders.base import KeyedOrder
from engine.policy.version_map import VERSIONS_REMEMBERED
from engine.types import VersionId

SMALL_SHARE = 10  # one tenth of the places is for those asked for once
MAX_ROUNDS = 3


class S3FifoOrder(KeyedOrder):
    """Two queues and a memory of those that left the first, after Yang et al. (SOSP 2023).

    In place of moving an adapter to the end of the main queue when its turn to leave comes, each of
    its requests puts the entry at which it is due a round later. So a plan moves nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries = 0
        self._rounds: dict[VersionId, int] = {}  # left to stay in the main queue
        self._small: dict[VersionId, int] = {}  # requests of those in the small queue
        self._left: OrderedDict[VersionId, None] = OrderedDict()

    def insert(self, version: VersionId) -> None:
        if version in self._left:
            del self._left[version]
            self._rounds[version] = 0
            self._place(version, len(self) + 1)
        else:
            self._small[version] = 0
            self._place(version, 1 + len(self) // SMALL_SHARE)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        if not granted:
            return
        if version not in self._small:
            self._rounds[version] = min(self._rounds[version] + 1, MAX_ROUNDS)
            self._place(version, len(self) * (1 + self._rounds[version]) // 2)
            return
        self._small[version] += 1
        if self._small[version] > 1:
            del self._small[version]
            self._rounds[version] = 0
            self._place(version, len(self))

    def _place(self, version: VersionId, entries: int) -> None:
        """It is due after so many more entries."""
        self._entries += 1
        self.put(version, (self._entries + entries, self._entries))

    def remove(self, version: VersionId) -> None:
        super().remove(version)
        self._rounds.pop(version, None)
        if self._small.pop(version, None) is not None:
            self._left[version] = None
            if len(self._left) > min(VERSIONS_REMEMBERED, max(len(self), 1)):
                self._left.popitem(last=False)

    def clear(self) -> None:
        super().clear()
        self._rounds.clear()
        self._small.clear()
