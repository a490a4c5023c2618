"""Shared lease: all prompts of one HTTP request share one lease, and one place in the queue."""

import asyncio
from collections.abc import Callable

from engine.cache.lease import LeaseContext, Revoke
from engine.types import Lease

Abort = Callable[[], None]
NewLease = Callable[[Revoke], LeaseContext]
"""Creates a lease for the whole request; its argument is called if the lease is revoked."""


class _Holding:
    """One lease, from the first prompt that needs it to the last one that does."""

    __slots__ = ("_aborts", "_acquiring", "_release", "is_released")

    def __init__(self, new_lease: NewLease) -> None:
        lease = new_lease(self._revoke)
        self._release = lease.release
        self._acquiring = asyncio.create_task(lease.acquire())
        self._acquiring.add_done_callback(_retrieve_exception)
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
            self._acquiring.cancel()  # gives up its place in the queue
        self._release()
        self._release = _nothing  # the lease refers to this: no work for the garbage collector

    def _revoke(self) -> None:
        for abort in list(self._aborts):
            abort()


class SharedLease:
    """The lease of one HTTP request on one version, released when the last of its prompts ends.

    A prompt that starts later acquires a new one.
    """

    def __init__(self, new_lease: NewLease) -> None:
        self._new_lease = new_lease
        self._holding: _Holding | None = None

    async def acquire(self, abort: Abort) -> tuple[Lease, Callable[[], None]]:
        """The lease, and a function that releases this prompt's share: to be called exactly once.

        `abort` is called if the lease is revoked. Raises what `LeaseContext.acquire` raises.
        """
        holding = self._holding
        if holding is None or holding.is_released:
            holding = self._holding = _Holding(self._new_lease)
        lease = await holding.join(abort)
        return lease, lambda: holding.leave(abort)


def _nothing() -> None:
    return


def _retrieve_exception(acquiring: asyncio.Task[Lease]) -> None:
    """All prompts may have ended by then, and asyncio warns of an exception never retrieved."""
    if not acquiring.cancelled():
        acquiring.exception()
