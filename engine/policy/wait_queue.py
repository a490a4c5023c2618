"""Wait queue: requests that wait for their adapter, in order of arrival. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.policy.decisions import Ticket
from engine.types import CacheOutcome, VersionId


@dataclass(slots=True)
class Waiter:
    """One waiting request and the outcome that its grant will have. Arrivals are numbered."""

    version: VersionId
    outcome: CacheOutcome
    arrival: int


class WaitQueue:
    """First come, first served per adapter; the planner decides which adapter is next.

    `on_change` is called with an adapter whose oldest waiter is another one, or the last has left.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[VersionId], None] = lambda version: None
        self._waiters: dict[Ticket, Waiter] = {}
        self._per_version: dict[VersionId, OrderedDict[Ticket, Waiter]] = {}
        self.is_waited_for: Callable[[VersionId], bool] = self._per_version.__contains__
        self._first_arrivals: dict[VersionId, int] = {}
        self.first_arrival: Callable[[VersionId], int] = self._first_arrivals.__getitem__
        """Of its oldest waiter. It has to be waited for."""
        self.find_first_arrival: Callable[[VersionId], int | None] = self._first_arrivals.get
        """The same; None if it is not waited for."""
        self.arrivals = 0  # numbered so far
        self.late = 0  # the last arrival that has waited too long for its load to wait

    def __len__(self) -> int:
        return len(self._waiters)

    def number_arrival(self) -> int:
        """The number of the next arrival, here or on the way to here."""
        self.arrivals += 1
        return self.arrivals

    def add(self, ticket: Ticket, version: VersionId, outcome: CacheOutcome) -> None:
        waiter = Waiter(version, outcome, self.number_arrival())
        self._waiters[ticket] = waiter
        if (same := self._per_version.get(version)) is not None:
            same[ticket] = waiter
            return
        same = self._per_version[version] = OrderedDict()
        same[ticket] = waiter
        self._first_arrivals[version] = waiter.arrival
        self.on_change(version)

    def remove(self, ticket: Ticket) -> Waiter | None:
        """None if it doesn't wait (any more)."""
        waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            version = waiter.version
            same = self._per_version[version]
            del same[ticket]
            if self._first_arrivals[version] == waiter.arrival:  # it was the oldest
                if same:
                    self._first_arrivals[version] = next(iter(same.values())).arrival
                else:
                    del self._per_version[version], self._first_arrivals[version]
                self.on_change(version)
        return waiter

    def remove_all(self, version: VersionId) -> list[Ticket]:
        """Remove every waiter for this adapter and return their tickets."""
        tickets = list(self._per_version.pop(version, ()))
        self._first_arrivals.pop(version, None)
        for ticket in tickets:
            del self._waiters[ticket]
        if tickets:
            self.on_change(version)
        return tickets

    def count(self, version: VersionId) -> int:
        return len(self._per_version.get(version, ()))

    def version_of(self, ticket: Ticket) -> VersionId | None:
        waiter = self._waiters.get(ticket)
        return waiter.version if waiter else None

    def mark_late(self, ticket: Ticket) -> None:
        """It, and all who came before it, have waited too long for their loads to wait."""
        if ticket in self._waiters:
            self.late = max(self.late, self._waiters[ticket].arrival)

    def waiters(self, version: VersionId) -> Iterator[tuple[Ticket, Waiter]]:
        """Of this adapter, in order of arrival. Lazy: change nothing meanwhile."""
        return iter(self._per_version.get(version, {}).items())

    def versions(self) -> list[VersionId]:
        """Each adapter that is waited for once, the one with the oldest waiter first."""
        return sorted(self._per_version, key=self.first_arrival)

    def set_outcome(self, version: VersionId, outcome: CacheOutcome) -> None:
        """The adapter left its slot or memory: its waiters find only this after all."""
        if version in self._per_version:
            for waiter in self._per_version[version].values():
                waiter.outcome = outcome
