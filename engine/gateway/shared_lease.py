"""Shared lease: all prompts of one HTTP request hold one lease, and wait in one place for it."""

import asyncio
from collections.abc import Callable

from engine.cache.lease import LeaseContext, Revoke
from engine.types import Lease

Abort = Callable[[], None]
NewLease = Callable[[Revoke], LeaseContext]
"""A lease for the whole request; what it is given is called if the lease is revoked."""


class _Holding:
    """One lease, from the first prompt that needs it to the last one that does."""

    __slots__ = ("_aborts", "_acquiring", "_lease", "is_released")

    def __init__(self, new_lease: NewLease) -> None:
        self._lease = new_lease(self._revoke)
        self._acquiring = asyncio.create_task(self._lease.acquire())
        self._acquiring.add_done_callback(_look_at_failure)
        self._aborts: list[Abort] = []
        self.is_released = False

    async def join(self, abort: Abort) -> Lease:
        self._aborts.append(abort)
        try:
            return await asyncio.shield(self._acquiring)
        except BaseException:
            self.leave(abort)
            raise

    def leave(self, abort: Abort) -> None:
        self._aborts.remove(abort)
        if self._aborts:
            return
        self.is_released = True
        if not self._acquiring.done():
            self._acquiring.cancel()  # its place in the queue is given up
        self._lease.release()

    def _revoke(self) -> None:
        for abort in list(self._aborts):
            abort()


class SharedLease:
    """The lease of one HTTP request on one version. Its prompts come and go.

    After the last one has left the lease is released: a prompt that comes later takes a new one.
    """

    def __init__(self, new_lease: NewLease) -> None:
        self._new_lease = new_lease
        self._holding: _Holding | None = None

    async def acquire(self, abort: Abort) -> tuple[Lease, Callable[[], None]]:
        """The lease, and what releases this prompt's part of it: to be called exactly once.

        `abort` is called if the lease is revoked. Raises what `LeaseContext.acquire` raises.
        """
        holding = self._holding
        if holding is None or holding.is_released:
            holding = self._holding = _Holding(self._new_lease)
        lease = await holding.join(abort)
        return lease, lambda: holding.leave(abort)


def _look_at_failure(acquiring: asyncio.Task[Lease]) -> None:
    """Every prompt may have left by then; asyncio complains of failures that nothing looks at."""
    if not acquiring.cancelled():
        acquiring.exception()
