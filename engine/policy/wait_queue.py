"""Wait queue: requests that wait for their adapter, in order of arrival. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from engine.policy.decisions import Ticket
from engine.types import CacheOutcome, VersionId


@dataclass(slots=True)
class Waiter:
    """One waiting request and the outcome that its grant will have."""

    version: VersionId
    outcome: CacheOutcome


class WaitQueue:
    """First come, first served per adapter; the planner decides which adapter is next."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Ticket, Waiter] = OrderedDict()
        self._per_version: Counter[VersionId] = Counter()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        self._waiters[ticket] = Waiter(version, outcome)
        self._per_version[version] += 1

    def remove(self, ticket: Ticket) -> Waiter | None:
        """None if it doesn't wait (any more)."""
        waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            self._per_version[waiter.version] -= 1
            if not self._per_version[waiter.version]:
                del self._per_version[waiter.version]
        return waiter

    def remove_all(self, version: VersionId) -> list[Ticket]:
        """Remove every waiter for this adapter and return their tickets."""
        tickets = [t for t, w in self._waiters.items() if w.version == version]
        for ticket in tickets:
            self.remove(ticket)
        return tickets

    def count(self, version: VersionId) -> int:
        return self._per_version[version]

    def version_of(self, ticket: Ticket) -> VersionId | None:
        waiter = self._waiters.get(ticket)
        return waiter.version if waiter else None

    def in_order(self) -> Iterator[tuple[Ticket, Waiter]]:
        """Iterates over a copy, so the queue may change meanwhile."""
        return iter(list(self._waiters.items()))

    def versions(self) -> list[VersionId]:
        """Each adapter that is waited for once, the one with the oldest waiter first."""
        return list(OrderedDict.fromkeys(w.version for w in self._waiters.values()))

    def set_outcome(self, version: VersionId, outcome: CacheOutcome) -> None:
        """The adapter left its slot or memory: its waiters find only this after all."""
        for waiter in self._waiters.values():
            if waiter.version == version:
                waiter.outcome = outcome
