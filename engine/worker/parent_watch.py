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

_OWNER = "ADAPTRY_ENGINE_OWNER"


@contextmanager
def owned_engines() -> Iterator[None]:
    """Whatever engine this process starts within ends with it."""
    before = os.environ.get(_OWNER)
    os.environ[_OWNER] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_OWNER]
        if before is not None:
            os.environ[_OWNER] = before


def end_with_owner() -> None:
    """Called in each worker. Does nothing where the engine is in its owner's own process."""
    owner = int(os.environ.get(_OWNER, os.getpid()))
    if owner == os.getpid() or not hasattr(os, "pidfd_open"):  # Linux has it
        return
    try:
        watched = os.pidfd_open(owner)
    except ProcessLookupError:
        _end()
    else:
        name = "adaptry-owner"
        threading.Thread(target=_end_after, args=[watched], name=name, daemon=True).start()


def _end_after(watched: int) -> None:
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.poll()
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # there is nobody whom an orderly end would serve
