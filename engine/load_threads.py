"""Load threads: a pool for reads of files that may never return."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_RUNNING = 8  # most loads that one process reads in parallel
MAX_ABANDONED = 8

P = ParamSpec("P")
T = TypeVar("T")


class ThreadsStalled(Exception):
    """A thread for this load would hang too, or none is left. A retry may succeed."""


class LoadThreads:
    """Threads for loads, besides up to `MAX_ABANDONED` that hang in a read that timed out.

    A read from an unresponsive disk can't be interrupted: a load that timed out is abandoned, and
    its thread counted until it returns. So hung reads take no thread from other loads; when too
    many hang, further loads are refused instead of queued. The files of an abandoned load, `key`,
    are not read again until it returns: repeated requests for one adapter take one thread.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(_RUNNING + MAX_ABANDONED, thread_name_prefix=name)
        self._abandoned: dict[Future[Any], str] = {}
        self._keys: dict[Future[Any], str] = {}
        self._lock = threading.Lock()

    @property
    def abandoned(self) -> int:
        """How many threads hang in an abandoned load."""
        return len(self._abandoned)

    def submit(
        self, key: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        """Raises ThreadsStalled."""
        with self._lock:
            if key in self._abandoned.values():
                raise ThreadsStalled("an earlier read of these files still hangs")
            if len(self._abandoned) >= MAX_ABANDONED:
                raise ThreadsStalled(f"{len(self._abandoned)} reads of other files hang")
            future = self._pool.submit(call, *args, **kwargs)
            self._keys[future] = key
        future.add_done_callback(self._on_done)
        return future

    def abandon(self, future: "Future[T]") -> None:
        """Nothing waits for it any more."""
        if future.cancel():  # it has not begun
            return
        with self._lock:
            key = self._keys.get(future)
            if key is not None:
                self._abandoned[future] = key

    def _on_done(self, future: "Future[T]") -> None:
        with self._lock:
            self._keys.pop(future, None)
            self._abandoned.pop(future, None)

    async def run(self, key: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in a thread; abandoned if the caller is cancelled. Raises ThreadsStalled."""
        future = self.submit(key, call, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.abandon(future)
            raise
