"""Watermark of the event log: no event will appear at or below this id any more.

PostgreSQL assigns ids before commit, so event 7 may be visible while 6 is not yet. A reader that
continues after 7 would lose 6. Every transaction that writes an event therefore holds a shared lock
from before its id is assigned until its end (taken by a trigger). The newest id is read first and
the lock's holders next: once these have ended, everything up to that id is either visible or never
will be. Writers never wait, and other transactions of the database server don't matter, however
long they are.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from registry.database.engine import Database
from registry.events.repository import EventRepository

logger = logging.getLogger(__name__)

_PACE_SECONDS = 0.1
_RETRY_SECONDS = 0.02
_LONG_SECONDS = 30.0


class EventWatermark:
    """Follows the log and wakes tasks that wait for its next event. `run` needs its own task.

    It looks at most ten times a second: many changes in a row would each cost a query, and wake all
    who follow. After a pause the first one is seen immediately.
    """

    def __init__(self, database: Database, *, poll_seconds: float = 1.0) -> None:
        self._database = database
        self._poll_seconds = poll_seconds  # delay of other servers' events without notifications
        self._position = 0
        self._changed = asyncio.Event()
        self._advanced = asyncio.Event()
        self.closed = asyncio.Event()
        self.on_advance: list[Callable[[], None]] = []
        self._commits = database.seen_commits()
        database.on_change.append(self.wake)

    @property
    def position(self) -> int:
        return self._position

    def wake(self) -> None:
        """Poll now: there may be new events."""
        self._changed.set()

    def close(self) -> None:
        """Wake all waiters, permanently."""
        self.closed.set()
        self._changed.set()
        self._advanced.set()

    async def run(self) -> None:
        """Run until `close`; retries during an outage."""
        away = False
        while not self.closed.is_set():
            self._changed.clear()
            try:
                if (unseen := self._commits.unseen()) is not None:
                    await self.catch_up()
                    self._commits.record(unseen)
                    await wait_for(self.closed, _PACE_SECONDS)
                away = False
            except Exception as error:  # any error: waiters must not wait forever
                if not away:
                    logger.warning("events are not followed for now: %s", error)
                away = True
            await wait_for(self._changed, self._poll_seconds)

    async def catch_up(self, wait_seconds: float | None = None) -> int:
        """Advance to the newest committed event, once the writers before it have ended; `settled`.

        After `wait_seconds` (default: no limit) it stays where it was.
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
        """Wait for the watermark to pass an event; False on timeout or close."""
        if self._position <= event_id:
            await wait_for(self._advanced, seconds)
        return self._position > event_id

    async def _read(self) -> tuple[int, frozenset[str]]:
        """The order of the two queries matters: see the module's docstring."""
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
    """Wait for the event, with a timeout."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # asyncio.wait_for may swallow a cancellation
            await event.wait()
