"""Tenant queue: requests of one tenant that wait for a place within the tenant's limits."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from engine.errors import EngineError
from engine.types import AdapterVersion, VersionId


class TenantRoom(Protocol):
    """What the tenant's limits leave."""

    def make_room(self, version: AdapterVersion, in_use: Collection[VersionId]) -> bool:
        """Whether one more adapter may be used beside these; may evict idle ones of the tenant."""

    def can_ever_fit(self, version: AdapterVersion) -> bool:
        """Whether it may be used once no other adapter of the tenant is in use."""


@dataclass(slots=True, eq=False)
class _Waiter:
    version: AdapterVersion
    admitted: asyncio.Future[None]
    arrived: float


class TenantQueue:
    """First come, first served; but a request for an adapter that is in use need not wait.

    That ends once a request has waited longer than the patience: then none is let past, the
    admitted ones finish, and there is room. A request that only a pin keeps out delays no other.
    """

    def __init__(
        self, room: TenantRoom, clock: Callable[[], float], patience_seconds: Callable[[], float]
    ) -> None:
        self._room = room
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._in_use: Counter[VersionId] = Counter()
        self._waiters: list[_Waiter] = []

    @property
    def in_use(self) -> Collection[VersionId]:
        """Adapters that admitted requests hold or wait for, each once."""
        return self._in_use.keys()

    @property
    def is_empty(self) -> bool:
        return not self._in_use and not self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def count(self, version: VersionId) -> int:
        return sum(waiter.version.id == version for waiter in self._waiters)

    # ---- entry and exit ------------------------------------------------------------------

    def try_enter(self, version: AdapterVersion) -> bool:
        """Admit it immediately; `leave` has to follow. False: it has to `wait`."""
        admitted = not self._waiters and self._has_room(version)
        if admitted:
            self._in_use[version.id] += 1
        return admitted

    async def wait(self, version: AdapterVersion) -> None:
        """Until it is admitted. `leave` has to follow, unless this raises."""
        admitted = asyncio.get_running_loop().create_future()
        waiter = _Waiter(version, admitted, self._clock())
        self._waiters.append(waiter)
        self.admit_waiters()
        try:
            await admitted
        except BaseException:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self.admit_waiters()
        elif not waiter.admitted.cancelled() and waiter.admitted.exception() is None:
            self.leave(waiter.version.id)  # admitted just before it was cancelled

    def leave(self, version: VersionId) -> None:
        """An admitted request has ended."""
        self._in_use[version] -= 1
        if not self._in_use[version]:
            del self._in_use[version]
        self.admit_waiters()

    def fail_all(self, error: EngineError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(error)

    def admit_waiters(self) -> None:
        """Admit every request that may enter now."""
        held_up = overdue = False
        for waiter in list(self._waiters):
            if waiter.admitted.done():  # cancelled, but its task has not run since
                continue
            used = waiter.version.id in self._in_use
            if not overdue if used else not held_up and self._has_room(waiter.version):
                self._waiters.remove(waiter)
                self._in_use[waiter.version.id] += 1
                waiter.admitted.set_result(None)
            elif not used and self._room.can_ever_fit(waiter.version):
                held_up = True
                overdue = overdue or self._is_overdue(waiter)

    def _has_room(self, version: AdapterVersion) -> bool:
        return version.id in self._in_use or self._room.make_room(version, self.in_use)

    def _is_overdue(self, waiter: _Waiter) -> bool:
        return self._clock() - waiter.arrived > self._patience_seconds()
