"""Idle threads: kept for the next work for a while, as to start one takes longer than most work."""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

IDLE_SECONDS = 10.0

Work = Callable[[], object]


class IdleThreads:
    """Runs each work immediately: in the thread that was busy last, or in a new one.

    A thread whose work hangs is not idle, and holds up no other work.

    They are daemons, unlike those of the standard library's pool: a process that ends does not wait
    for a disk that hangs.
    """

    def __init__(self, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # which has none of the threads

    def _forget(self) -> None:
        self._idle: list[SimpleQueue[Work]] = []
        self._lock = threading.Lock()

    def run(self, work: Work) -> None:
        """`work` must not raise."""
        with self._lock:
            box = self._idle.pop() if self._idle else None
        if box is not None:
            box.put(work)
            return
        threading.Thread(target=self._serve, args=([work],), name=self._name, daemon=True).start()

    def _serve(self, first: list[Work]) -> None:
        """`first`: a list, so that no frame keeps the work, and what it refers to, afterwards."""
        box: SimpleQueue[Work] = SimpleQueue()
        first.pop()()
        while (work := self._next(box)) is not None:
            work()
            del work

    def _next(self, box: "SimpleQueue[Work]") -> Work | None:
        """None: it is needed no more."""
        with self._lock:
            self._idle.append(box)
        try:
            return box.get(timeout=self._idle_seconds)
        except Empty:
            pass
        with self._lock:
            if box in self._idle:
                self._idle.remove(box)
                return None
        return box.get()  # it was given work at the last moment
