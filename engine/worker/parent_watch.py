"""Engines end with the server that started them, also where that is killed and can tell nobody.

An orphan would keep the GPU, the port and the store's locks that it was born with, and vLLM's core
waits for its client for ever (0.26 to 0.32). It has no code of ours in its process before it makes
its workers; these watch the server, and the core of an engine ends when one of its workers does.
"""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "ADAPTRY_ENGINE_OWNER"


@contextmanager
def bind_engine_lifetime() -> Iterator[None]:
    """Whatever engine this process starts within ends with it."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def watch_parent() -> None:
    """Called in each worker. Does nothing where the engine is in its parent's own process."""
    parent = int(os.environ.get(_VARIABLE, os.getpid()))
    if parent == os.getpid() or not hasattr(os, "pidfd_open"):  # Linux has it
        return
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        _kill_self()
    else:
        name = "adaptry-parent"
        threading.Thread(target=_kill_after, args=[watched], name=name, daemon=True).start()


def _kill_after(watched: int) -> None:
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.poll()
    _kill_self()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # there is nobody whom an orderly end would serve
