"""Held leases: of callers that lease first and then generate several times."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from engine.errors import EngineUnavailable
from engine.types import WorkDone


class HeldLease:
    """Admits requests of a caller that holds their lease, and counts those that run."""

    trace_headers = None

    def __init__(self) -> None:
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def admit(self) -> "HeldLease":
        self._running += 1
        self._idle.clear()
        return self

    def on_end(self, work: WorkDone) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    def on_engine_death(self, error: EngineUnavailable) -> None:
        """The caller gets vLLM's own error."""

    async def until_idle(self) -> None:
        await self._idle.wait()


_held: ContextVar[HeldLease | None] = ContextVar("adaptry_held_lease", default=None)


def held_lease() -> HeldLease | None:
    """What the running task's caller holds, in a block of `use_held_lease`."""
    return _held.get()


@asynccontextmanager
async def use_held_lease() -> AsyncIterator[None]:
    """For a caller that holds the lease for what it generates in the block.

    The block ends when the engine's work on all of its requests has ended, also on cancelled ones:
    then the lease may be released.
    """
    lease = HeldLease()
    token = _held.set(lease)
    try:
        yield
    finally:
        _held.reset(token)
        await lease.until_idle()
