"""Interpreter of a process that serves: turns of its threads, and when it looks for garbage."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

THREAD_TURN_SECONDS = 0.0005
OBJECTS_PER_COLLECTION = 50_000
"""What 380 requests hold that run at once: 130 each, vLLM's own included (0.32, streams)."""

_before: list[tuple[float, tuple[int, int, int]]] = []  # once for each server of this process


@contextmanager
def serving_interpreter() -> Iterator[None]:
    """Short turns, and rare looks for garbage, while a server runs.

    A thread holds the interpreter only so long while the event loop wants it: tokens wait. Python's
    own turn is ten times as long, and registrations have many threads.

    What a request holds is freed without the collector, which stops all streams meanwhile. Its own
    threshold, 700 more objects than before, is passed by a few requests that begin together; each
    collection then takes 10 to 20 ms, as it finds all of them alive.

    Servers of one process share the interpreter: the last to stop gives it its own settings back.
    """
    _before.append(_before[0] if _before else (sys.getswitchinterval(), gc.get_threshold()))
    turn_seconds, (objects, *older) = _before[0]
    sys.setswitchinterval(min(turn_seconds, THREAD_TURN_SECONDS))
    if objects:  # otherwise it is off
        gc.set_threshold(max(objects, OBJECTS_PER_COLLECTION), *older)
    try:
        yield
    finally:
        turn_seconds, thresholds = _before.pop()
        if not _before:
            sys.setswitchinterval(turn_seconds)
            gc.set_threshold(*thresholds)
