"""Cache state: what the controller knows besides the policy: versions, requests, slots, use."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

from engine.policy.decisions import Ticket
from engine.policy.miss_history import MissHistory
from engine.policy.version_map import VersionMap
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


@dataclass(slots=True)
class _Known:
    """What is known of a version."""

    version: AdapterVersion
    load_seconds: float = 0.0
    guaranteed: bool = False
    hits: int = 0
    last_used: float | None = None


class CacheState:
    """Only the controller's parts write it, and only by these methods.

    It forgets versions that are not needed, but for the last few thousand: see `VersionMap`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        is_needed: Callable[[VersionId], bool] = lambda version: True,
    ) -> None:
        self.clock = clock
        self._known = VersionMap[_Known](is_needed)
        self._pending: dict[Ticket, PendingRequest] = {}
        self._slots: dict[VersionId, int] = {}
        self._history = MissHistory()

    # ---- versions ------------------------------------------------------------------------

    def add_version(self, version: AdapterVersion) -> None:
        known = self._known.get(version.id) or _Known(version)
        known.version = version
        self._known.put(version.id, known)

    def version(self, version: VersionId) -> AdapterVersion:
        """Raises KeyError for one that was never added."""
        return self._known[version].version

    def find_version(self, version: VersionId) -> AdapterVersion | None:
        """None: the engine holds what nothing here ever loaded."""
        known = self._known.get(version)
        return None if known is None else known.version

    # ---- pending requests ----------------------------------------------------------------

    def add_request(self, ticket: Ticket, request: PendingRequest) -> None:
        self._pending[ticket] = request
        self.add_version(request.version)

    def pop_request(self, ticket: Ticket) -> PendingRequest:
        return self._pending.pop(ticket)

    def discard_request(self, ticket: Ticket) -> None:
        self._pending.pop(ticket, None)

    def pending_count(self) -> int:
        return len(self._pending)

    def overdue_requests(self, patience_seconds: float) -> list[tuple[Ticket, float]]:
        """Those that have waited longer, with the times of their arrival, in that order."""
        latest = self.clock() - patience_seconds
        arrivals = ((ticket, each.arrived) for ticket, each in self._pending.items())
        return list(takewhile(lambda each: each[1] < latest, arrivals))

    def oldest_wait_seconds(self) -> float:
        """Of the client's request that has waited longest; 0 if none waits."""
        arrived = next((each.arrived for each in self._pending.values() if each.counted), None)
        return 0.0 if arrived is None else self.clock() - arrived

    # ---- loads and slots -----------------------------------------------------------------

    def record_load(self, version: VersionId, seconds: float, *, guaranteed: bool) -> None:
        """Its files are staged. `guaranteed`: see `ports.Loaded`."""
        known = self._known[version]
        known.load_seconds, known.guaranteed = seconds, guaranteed

    def load_seconds(self, version: VersionId) -> float:
        """Of its last load from disk; 0 if it was never loaded."""
        known = self._known.get(version)
        return 0.0 if known is None else known.load_seconds

    def is_guaranteed(self, version: VersionId) -> bool:
        """Its moves can't fail, so they count as done once they are decided."""
        known = self._known.get(version)
        return known is not None and known.guaranteed

    def record_entry(self, version: VersionId) -> None:
        """It enters the host tier."""
        self._history.record_load(self.version(version))
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
        self._slots.clear()

    # ---- use -----------------------------------------------------------------------------

    def record_use(self, version: VersionId) -> None:
        """A request no longer holds it, or it enters memory. While one does, it is not idle."""
        self._known[version].last_used = self.clock()

    def idle_seconds(self, version: VersionId) -> float:
        """Since a request last held it, or else since it entered memory."""
        known = self._known.get(version)
        if known is None or known.last_used is None:
            return 0.0
        return self.clock() - known.last_used

    def record_hit(self, version: VersionId) -> None:
        self._known[version].hits += 1

    def hits(self, version: VersionId) -> int:
        known = self._known.get(version)
        return 0 if known is None else known.hits
