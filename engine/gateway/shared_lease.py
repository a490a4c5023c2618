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

    __slots__ = ("_aborts", "_acquiring", "_context", "_lease", "is_released")

    def __init__(self, new_lease: NewLease) -> None:
        self._context: LeaseContext | None = new_lease(self._revoke)
        self._lease: Lease | None = None
        self._acquiring: asyncio.Task[Lease] | None = None  # where it has to wait
        self._aborts: list[Abort] = []
        self.is_released = False

    async def join(self, abort: Abort) -> Lease:
        self._aborts.append(abort)
        try:
            if self._lease is None:
                self._lease = await self._acquire()
        except BaseException:
            self.leave(abort)
            raise
        return self._lease

    async def _acquire(self) -> Lease:
        context = self._context
        if context is None:
            raise RuntimeError("the lease has been released")
        if self._acquiring is None:
            if context.is_immediate():
                return await context.acquire()
            self._acquiring = asyncio.create_task(context.acquire())
            self._acquiring.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._acquiring)

    def leave(self, abort: Abort) -> None:
        self._aborts.remove(abort)
        if self._aborts:
            return
        self.is_released = True
        if self._acquiring is not None and not self._acquiring.done():
            self._acquiring.cancel()  # gives up its place in the queue
        context, self._context = self._context, None  # it refers to this: no work for the collector
        if context is not None:
            context.release()

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


def _retrieve_exception(acquiring: asyncio.Task[Lease]) -> None:
    """All prompts may have ended by then, and asyncio warns of an exception never retrieved."""
    if not acquiring.cancelled():
        acquiring.exception()
