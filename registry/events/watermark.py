"""Watermark of the event log: no event will appear at or below this id any more.

PostgreSQL gives out ids before they are committed, so that event 7 may be seen while 6 is still to
come. A reader that takes what it sees and goes on from there would lose 6. Every transaction that
writes an event therefore holds a lock, shared, from before its id until its end (a trigger takes
it). We look at the newest id first and at the holders of the lock next: once these have ended,
everything up to that id is either there or never will be. Writers wait for nobody, and other
transactions of the database server don't matter, however long they are.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from registry.database.engine import Database
from registry.events.repository import EventRepository

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.02
_LONG_SECONDS = 30.0


class EventWatermark:
    """Follows the log and wakes those who wait for its next event. `run` in a task of its own."""

    def __init__(self, database: Database, *, poll_seconds: float = 1.0) -> None:
        self._database = database
        self._poll_seconds = poll_seconds  # how soon events of other servers are seen
        self._position = 0
        self._changed = asyncio.Event()
        self._advanced = asyncio.Event()
        self.closed = asyncio.Event()
        self.on_advance: list[Callable[[], None]] = []
        database.on_change.append(self.wake)

    @property
    def position(self) -> int:
        return self._position

    def wake(self) -> None:
        """There may be something new: do not wait for the next poll."""
        self._changed.set()

    def close(self) -> None:
        """Everybody who waits is let go, for good."""
        self.closed.set()
        self._changed.set()
        self._advanced.set()

    async def run(self) -> None:
        """Until `close`. A database that is away is asked again and again."""
        away = False
        while not self.closed.is_set():
            self._changed.clear()
            try:
                await self.catch_up()
                away = False
            except Exception as error:  # whatever it is, whoever waits must not wait for ever
                if not away:
                    logger.warning("events are not followed for now: %s", error)
                away = True
            await wait_for(self._changed, self._poll_seconds)

    async def catch_up(self, wait_seconds: float | None = None) -> int:
        """Settle what is committed now, once the writers before it have ended; `settled`.

        After `wait_seconds` (default: however long it takes) it stays where it was.
        Raises DatabaseUnavailable.
        """
        newest, writers = await self._read()
        started = time.monotonic()
        said = False
        while writers:
            waited = time.monotonic() - started
            if wait_seconds is not None and waited > wait_seconds:
                return self._position
            if waited > _LONG_SECONDS and not said:
                logger.warning("events after %d wait for a transaction to end", self._position)
                said = True
            await asyncio.sleep(min(_RETRY_SECONDS + waited / 10, self._poll_seconds))
            writers &= await self._writers()
        self._advance(newest)
        return self._position

    async def wait_beyond(self, event_id: int, seconds: float) -> bool:
        """Wait until the log is settled beyond an event; False after so many seconds, or closed."""
        if self._position <= event_id:
            await wait_for(self._advanced, seconds)
        return self._position > event_id

    async def _read(self) -> tuple[int, frozenset[str]]:
        """The order of the two questions is what makes the answer true."""
        async with self._database.read_session() as session:
            repository = EventRepository(session)
            newest = await repository.newest_id()
            writers = await repository.writers() if newest > self._position else frozenset[str]()
        return newest, writers

    async def _writers(self) -> frozenset[str]:
        async with self._database.read_session() as session:
            return await EventRepository(session).writers()

    def _advance(self, newest: int) -> None:
        if newest <= self._position:
            return
        self._position = newest
        self._advanced.set()
        self._advanced = asyncio.Event()
        for callback in self.on_advance:
            callback()


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, but no longer than so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # asyncio.wait_for may swallow a cancellation
            await event.wait()
