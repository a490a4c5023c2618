"""Parent watch: kills engine workers when their parent server dies, even by SIGKILL.

An orphaned engine would keep the GPU, the port and the store's locks that it inherited, and vLLM's
core waits for its client forever (0.26 to 0.32). None of our code runs in the core's process before
it starts its workers; these watch the server, and the core exits when one of its workers does.
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
    """Engines started in the block end when this process ends."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def watch_parent() -> None:
    """Called in each worker. Does nothing if the engine runs in its parent's own process."""
    parent = int(os.environ.get(_VARIABLE, os.getpid()))
    if parent == os.getpid() or not hasattr(os, "pidfd_open"):  # Linux only
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
    os.kill(os.getpid(), signal.SIGKILL)  # nothing is left that an orderly exit would serve
