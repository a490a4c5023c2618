"""Write turns: SQLite's one writer at a time, in the order of asking.

A queue that moves is waited for, however long it is: only one that stands still is an outage.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.errors import DatabaseUnavailable

STALL_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0


class WriteTurns:
    """`stall_seconds` without the end of any turn, and those who wait are refused."""

    def __init__(
        self,
        stall_seconds: float = STALL_SECONDS,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._stall_seconds = stall_seconds
        self._longest_wait_seconds = longest_wait_seconds
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._ended = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises DatabaseUnavailable."""
        await self._wait()
        try:
            yield
        finally:
            self._ended += 1
            self._lock.release()

    async def _wait(self) -> None:
        if not self._lock.locked() and not self._waiting:
            await self._lock.acquire()  # immediately
            return
        acquiring = asyncio.create_task(self._lock.acquire())
        self._waiting += 1
        try:
            await self._wait_for(acquiring)
        except BaseException:
            if acquiring.done():
                self._lock.release()
            acquiring.cancel()
            raise
        finally:
            self._waiting -= 1

    async def _wait_for(self, acquiring: asyncio.Task[bool]) -> None:
        clock = asyncio.get_running_loop().time
        latest = clock() + self._longest_wait_seconds
        while (left := latest - clock()) > 0:
            ended = self._ended
            await asyncio.wait({acquiring}, timeout=min(self._stall_seconds, left))
            if acquiring.done():
                return
            if self._ended == ended:
                break
        raise DatabaseUnavailable("the database is busy with other changes")
