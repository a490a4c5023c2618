"""Cache state: what the controller knows besides the policy: versions, requests, slots, use."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.policy.decisions import Ticket
from engine.policy.miss_history import MissHistory
from engine.types import AdapterVersion, CacheOutcome, MissCause, VersionId


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """One request that waits for its grant. `counted`: by a client, not by an operator.

    `cause`: of the miss, should it be one.
    """

    version: AdapterVersion
    granted: asyncio.Future[CacheOutcome]
    arrived: float
    cause: MissCause
    counted: bool


class CacheState:
    """Only the controller's parts write it, and only by these methods."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._versions: dict[VersionId, AdapterVersion] = {}
        self._pending: dict[Ticket, PendingRequest] = {}
        self._load_seconds: dict[VersionId, float] = {}
        self._guaranteed: set[VersionId] = set()
        self._slots: dict[VersionId, int] = {}
        self._hits: Counter[VersionId] = Counter()
        self._last_used: dict[VersionId, float] = {}
        self._history = MissHistory()

    # ---- versions ------------------------------------------------------------------------

    def add_version(self, version: AdapterVersion) -> None:
        self._versions[version.id] = version

    def version(self, version: VersionId) -> AdapterVersion:
        """Raises KeyError for one that was never added."""
        return self._versions[version]

    def find_version(self, version: VersionId) -> AdapterVersion | None:
        """None: the engine holds what nothing here ever loaded."""
        return self._versions.get(version)

    # ---- pending requests ----------------------------------------------------------------

    def add_request(self, ticket: Ticket, request: PendingRequest) -> None:
        self._pending[ticket] = request
        self._versions[request.version.id] = request.version

    def pop_request(self, ticket: Ticket) -> PendingRequest:
        return self._pending.pop(ticket)

    def discard_request(self, ticket: Ticket) -> None:
        self._pending.pop(ticket, None)

    def pending_count(self) -> int:
        return len(self._pending)

    def overdue_requests(self, patience_seconds: float) -> list[tuple[Ticket, PendingRequest]]:
        """Those that have waited longer."""
        now, pending = self.clock(), self._pending.items()
        return [(ticket, each) for ticket, each in pending if now - each.arrived > patience_seconds]

    def oldest_wait_seconds(self) -> float:
        """Of the client's request that has waited longest; 0 if none waits."""
        arrived = next((each.arrived for each in self._pending.values() if each.counted), None)
        return 0.0 if arrived is None else self.clock() - arrived

    # ---- loads and slots -----------------------------------------------------------------

    def record_load(self, version: VersionId, seconds: float, *, guaranteed: bool) -> None:
        """Its files are staged. `guaranteed`: see `ports.Loaded`."""
        self._load_seconds[version] = seconds
        (self._guaranteed.add if guaranteed else self._guaranteed.discard)(version)

    def load_seconds(self, version: VersionId) -> float:
        """Of its last load from disk; 0 if it was never loaded."""
        return self._load_seconds.get(version, 0.0)

    def is_guaranteed(self, version: VersionId) -> bool:
        """Its moves can't fail, so they count as done once they are decided."""
        return version in self._guaranteed

    def record_entry(self, version: VersionId) -> None:
        """It enters the host tier."""
        self._history.record_load(self._versions[version])
        self.record_use(version)

    def cause_of_miss(self, version: AdapterVersion) -> MissCause:
        return self._history.cause_of_miss(version)

    def record_loss(self, versions: Iterable[VersionId]) -> None:
        """They were resident when a process or an engine ended."""
        self._history.record_loss(versions)

    def set_slot(self, version: VersionId, slot: int) -> None:
        self._slots[version] = slot

    def slot(self, version: VersionId) -> int | None:
        """None: in no slot, or the engine has not reported it."""
        return self._slots.get(version)

    def pop_slot(self, version: VersionId) -> int | None:
        return self._slots.pop(version, None)

    def on_engine_lost(self, resident: Iterable[VersionId]) -> None:
        self.record_loss(resident)
        self._guaranteed.clear()
        self._slots.clear()

    # ---- use -----------------------------------------------------------------------------

    def record_use(self, version: VersionId) -> None:
        """A request begins or ends to hold it."""
        self._last_used[version] = self.clock()

    def idle_seconds(self, version: VersionId) -> float:
        """Since a request last held it, or else since it entered memory."""
        now = self.clock()
        return now - self._last_used.get(version, now)

    def record_hit(self, version: VersionId) -> None:
        self._hits[version] += 1

    def hits(self, version: VersionId) -> int:
        return self._hits[version]
