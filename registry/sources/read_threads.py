"""Read threads: run reads that may never return, a few at a time.

They are daemons, unlike those of the standard library's pool: a process that ends does not wait for
a disk that hangs.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_Read = tuple["Future[Any]", Callable[[], Any]]


class ReadThreads:
    """At most `count` threads, which end when no read waits. A read that waits can be cancelled."""

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
