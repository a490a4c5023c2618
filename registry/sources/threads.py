"""Threads for long work, which can only be asked to stop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from registry.sources.disks.reads import Share, begin_read
from registry.sources.disks.store_threads import SOURCES
from registry.sources.open_sockets import OpenSockets

HUNG_SECONDS = 2.0  # after which a read that was to stop counts as hung
STOP_SECONDS = 10.0  # the same for an inspection of large files in the store, say

Result = TypeVar("Result")


async def run_in_thread(
    work: Callable[[], Result], stop: Callable[[], None], *, share: Share | None = None
) -> Result:
    """Run `work` in a thread. On cancellation, call `stop` and wait for the thread's end.

    So the canceller may delete what the thread was writing to. `share`: in a thread of that disk,
    else in one of the store, which all work writes to. What hangs is left behind, and may go on
    much later.
    """
    running = begin_read(share or SOURCES.next_share(), work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({running}, timeout=STOP_SECONDS if share is None else HUNG_SECONDS)
        if not running.done():
            running.cancel()
        elif not running.cancelled():
            running.exception()  # retrieved: it was asked to stop
        raise


async def fetch_in_thread(
    fetch: Callable[[OpenSockets], Result], stop: Callable[[], None]
) -> Result:
    """Run a fetch over connections of its own, which a cancellation ends beside calling `stop`."""
    sockets = OpenSockets()

    def end() -> None:
        stop()
        sockets.end()

    return await run_in_thread(partial(fetch, sockets), end)


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
