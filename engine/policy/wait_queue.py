"""The line of requests that wait for their adapter, in order of arrival. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from engine.policy.decisions import Ticket
from engine.types import CacheOutcome, VersionId


@dataclass(slots=True)
class Waiter:
    """One waiting request and what it will have found when its turn comes."""

    version: VersionId
    outcome: CacheOutcome


class WaitQueue:
    """First come, first served per adapter; which adapter is next is the policy's business."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Ticket, Waiter] = OrderedDict()
        self._per_version: Counter[VersionId] = Counter()

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        self._waiters[ticket] = Waiter(version, outcome)
        self._per_version[version] += 1

    def leave(self, ticket: Ticket) -> Waiter | None:
        """Remove one waiter. None if it doesn't wait (any more)."""
        waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            self._per_version[waiter.version] -= 1
            if not self._per_version[waiter.version]:
                del self._per_version[waiter.version]
        return waiter

    def leave_all(self, version: VersionId) -> list[Ticket]:
        """Remove everyone who waits for this adapter and return their tickets."""
        tickets = [t for t, w in self._waiters.items() if w.version == version]
        for ticket in tickets:
            self.leave(ticket)
        return tickets

    def count(self, version: VersionId) -> int:
        return self._per_version[version]

    def version_of(self, ticket: Ticket) -> VersionId | None:
        waiter = self._waiters.get(ticket)
        return waiter.version if waiter else None

    def in_order(self) -> Iterator[tuple[Ticket, Waiter]]:
        """A copy, so that the line may change on the way."""
        return iter(list(self._waiters.items()))

    def versions(self) -> list[VersionId]:
        """The awaited adapters, the longest awaited first."""
        return list(OrderedDict.fromkeys(w.version for w in self._waiters.values()))

    def lost(self, version: VersionId, outcome: CacheOutcome) -> None:
        """The adapter left its slot: whoever came for that finds only this after all."""
        for waiter in self._waiters.values():
            if waiter.version == version:
                waiter.outcome = outcome
