"""Store threads: for work on the store's files, whose disk may hang as any other.

They are apart from those of `asyncio.to_thread`, which the database needs. What is asked of a store
that hangs is given up after a while; its thread goes on, and undoes what no request waits for.
"""

import asyncio
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar

from registry.errors import StoreUnavailable
from registry.sources.disks.reads import Share, begin_read

STEP_SECONDS = 10.0
WORK_SECONDS = 600.0
ARCHIVE_SECONDS = 6 * 3600.0

Result = TypeVar("Result")

_numbers = count()
_left_behind: set["asyncio.Future[Any]"] = set()  # until what they raise is retrieved


def store_overdue(seconds: float) -> StoreUnavailable:
    """It hangs."""
    return StoreUnavailable(f"the store did not answer in {seconds:g} s")


class StoreThreads:
    """Threads for one kind of work, so that none waits for another kind's."""

    def __init__(self, name: str, seconds: float) -> None:
        """`seconds`: how long its work is waited for."""
        self._name = name
        self.seconds = seconds

    def next_share(self) -> Share:
        """An owner of its own: all of the kind's threads are for the first caller."""
        return Share(f"store: {self._name}", str(next(_numbers)))

    async def run(
        self, work: Callable[[], Result], undo: Callable[[Result], object] | None = None
    ) -> Result:
        """As `asyncio.to_thread`. Raises StoreUnavailable if it takes too long.

        `undo`: what becomes of a result that comes later, or after a cancellation.
        """
        attempt = _Attempt(work, undo)
        running = self._begin(attempt.run)
        try:
            await asyncio.wait({running}, timeout=self.seconds)
        except asyncio.CancelledError:
            if not attempt.give_up() and undo is not None:
                self._leave(self._begin(attempt.undo))
            self._leave(running).cancel()
            raise
        if not running.done() and attempt.give_up():
            self._leave(running).cancel()
            raise store_overdue(self.seconds)
        return await running

    async def finish(self, work: Callable[[], Result]) -> Result | None:
        """The same for work that has to be done, however late: None if it is not done yet."""
        running = self._begin(work)
        try:
            await asyncio.wait({running}, timeout=self.seconds)
        except asyncio.CancelledError:
            self._leave(running)
            raise
        if running.done():
            return running.result()
        self._leave(running)
        return None

    def _begin(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        return begin_read(self.next_share(), work)

    def _leave(self, running: "asyncio.Future[Result]") -> "asyncio.Future[Result]":
        _left_behind.add(running)
        running.add_done_callback(_forget)
        return running


class _Attempt(Generic[Result]):
    """Work that may be given up, which its thread notices at its end."""

    def __init__(self, work: Callable[[], Result], undo: Callable[[Result], object] | None) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._is_given_up = False
        self._results: list[Result] = []

    def run(self) -> Result:
        result = self._work()
        with self._lock:
            self._results.append(result)
            is_late = self._is_given_up
        if is_late:
            self.undo()
        return result

    def give_up(self) -> bool:
        """False if it has ended meanwhile."""
        with self._lock:
            self._is_given_up = not self._results
            return self._is_given_up

    def undo(self) -> None:
        while self._undo is not None and self._results:
            self._undo(self._results.pop())


def _forget(left: "asyncio.Future[Any]") -> None:
    _left_behind.discard(left)
    if not left.cancelled():
        left.exception()  # retrieved: no request waits for it


STEPS = StoreThreads("steps", STEP_SECONDS)
"""For what takes milliseconds: a look, a name, a lock that is not waited for."""

WORK = StoreThreads("work", WORK_SECONDS)
"""For what reads or writes an adapter's files, or waits for a lock."""

SOURCES = StoreThreads("sources", WORK_SECONDS)
"""For what is fetched or inspected, as fast as a source sends it."""

ARCHIVES = StoreThreads("archives", ARCHIVE_SECONDS)
"""For a whole registry, as fast as a client sends it."""
