"""One tenant's requests before the line: they wait here for a place among those of their tenant."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from engine.errors import EngineError
from engine.types import AdapterVersion, VersionId


class Room(Protocol):
    """What the tenant's limits leave."""

    def make(self, version: AdapterVersion, inside: Collection[VersionId]) -> bool:
        """Whether one more adapter may come in beside these; others may have to leave memory."""

    def comes(self, version: AdapterVersion) -> bool:
        """Whether it may once no other one of the tenant is in use."""


@dataclass(slots=True, eq=False)
class _Waiter:
    version: AdapterVersion
    entered: asyncio.Future[None]
    arrived: float


class TenantQueue:
    """First come, first served, but whoever asks for an adapter that is in need not wait.

    That ends once somebody has waited longer than the patience: then nobody passes, those who are
    in come to their end, and there is room. Whoever only a pin keeps out holds up nobody.
    """

    def __init__(
        self, room: Room, clock: Callable[[], float], patience_seconds: Callable[[], float]
    ) -> None:
        self._room = room
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._inside: Counter[VersionId] = Counter()
        self._waiters: list[_Waiter] = []

    @property
    def inside(self) -> Collection[VersionId]:
        """Leased or awaited, each once."""
        return self._inside.keys()

    @property
    def is_empty(self) -> bool:
        return not self._inside and not self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def waiting(self, version: VersionId) -> int:
        return sum(waiter.version.id == version for waiter in self._waiters)

    # ---- coming and going ----------------------------------------------------------------

    def enter_at_once(self, version: AdapterVersion) -> bool:
        """False: it has to `wait`. To be given back with `leave`."""
        enters = not self._waiters and self._has_place(version)
        if enters:
            self._inside[version.id] += 1
        return enters

    async def wait(self, version: AdapterVersion) -> None:
        """Until it is in. To be given back with `leave`, unless this raises."""
        entered = asyncio.get_running_loop().create_future()
        waiter = _Waiter(version, entered, self._clock())
        self._waiters.append(waiter)
        self.look()
        try:
            await entered
        except BaseException:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self.look()
        elif not waiter.entered.cancelled() and waiter.entered.exception() is None:
            self.leave(waiter.version.id)  # it came in in the moment the client left

    def leave(self, version: VersionId) -> None:
        """One that was in has ended."""
        self._inside[version] -= 1
        if not self._inside[version]:
            del self._inside[version]
        self.look()

    def fail_all(self, error: EngineError) -> None:
        """Whoever waits, waits in vain."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.entered.done():
                waiter.entered.set_exception(error)

    def look(self) -> None:
        """Let everybody in who may come in now."""
        held_up = overdue = False
        for waiter in list(self._waiters):
            if waiter.entered.done():  # cancelled, but its task has not run since
                continue
            is_in = waiter.version.id in self._inside
            if not overdue if is_in else not held_up and self._has_place(waiter.version):
                self._waiters.remove(waiter)
                self._inside[waiter.version.id] += 1
                waiter.entered.set_result(None)
            elif is_in or self._room.comes(waiter.version):
                held_up = True
                overdue = overdue or self._is_overdue(waiter)

    def _has_place(self, version: AdapterVersion) -> bool:
        return version.id in self._inside or self._room.make(version, self.inside)

    def _is_overdue(self, waiter: _Waiter) -> bool:
        return self._clock() - waiter.arrived > self._patience_seconds()
