"""Threads for long work, which can only be asked to stop."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from registry.errors import SourceTimeout

MAX_READS = 16  # of the folders to register from, at a time
LOOK_SECONDS = 60.0  # for a look at one of them
HUNG_SECONDS = 2.0  # after which a read that was to stop counts as hung

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_Read = tuple["Future[Any]", Callable[[], Any]]


class ReadThreads:
    """At most `count` threads for reads that may never return. They end when no read waits; one
    that waits can be cancelled.

    They are daemons, unlike those of the standard library's pool: a process that ends does not wait
    for a disk that hangs.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._running = 0
        self._waiting: deque[_Read] = deque()
        self._lock = threading.Lock()

    def submit(self, read: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        with self._lock:
            self._waiting.append((future, read))
            is_full = self._running >= self._count
            self._running += not is_full
        if not is_full:
            threading.Thread(target=self._work, name="adaptry-sources", daemon=True).start()
        return future

    def _work(self) -> None:
        while (next_read := self._next()) is not None:
            _run(*next_read)

    def _next(self) -> _Read | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None


def _run(future: "Future[Any]", read: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = read()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


_readers = ReadThreads(MAX_READS)


async def look_in_thread(
    look: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """As `asyncio.to_thread`, for looks at the folders to register from.

    They may be on a disk that hangs, and a read that hangs can't be ended. In threads of their own
    such reads keep only each other waiting, and neither the database nor uploads.
    Raises SourceTimeout.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await _read(partial(look, *args, **kwargs))
    except TimeoutError:
        raise SourceTimeout(LOOK_SECONDS) from None


async def _read(read: Callable[[], Result]) -> Result:
    context = contextvars.copy_context()
    return await asyncio.wrap_future(_readers.submit(partial(context.run, read)))


async def run_in_thread(
    work: Callable[[], Result], stop: Callable[[], None], *, reads_folder: bool = False
) -> Result:
    """Run `work` in a thread. On cancellation, call `stop` and wait for the thread's end.

    So the canceller may delete what the thread was writing to. `reads_folder`: in one of the
    threads of `look_in_thread`; a read that hangs is left behind then, and may go on much later.
    """
    running = asyncio.ensure_future(_read(work) if reads_folder else asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({running}, timeout=HUNG_SECONDS if reads_folder else None)
        if not running.done():
            running.cancel()
        elif not running.cancelled():
            running.exception()  # retrieved: it was asked to stop
        raise


async def run_to_completion(work: Awaitable[Result]) -> Result:
    """Await it to its end; a cancellation meanwhile is raised at the next `await`."""
    running = asyncio.ensure_future(work)
    ourselves = asyncio.current_task()
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break  # `result` raises it
    if cancelled and ourselves is not None:
        ourselves.uncancel()
        ourselves.cancel()
    return running.result()


async def run_on_own_loop(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine in a thread with its own event loop.

    It may write to a slow disk without blocking the server's loop.
    """
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def until_stopped() -> Result:
        task = asyncio.ensure_future(work())
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
        return await task

    def run() -> Result:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(until_stopped())

    return await run_in_thread(run, lambda: _call(loop, stopping.set))


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Schedule the callback, unless the loop has just been closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return
