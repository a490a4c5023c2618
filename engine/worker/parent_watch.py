"""Parent watch: kills engine workers when their parent server dies, even by SIGKILL.

An orphaned engine would keep the GPU, the port and the store's locks that it inherited, and vLLM's
core waits for its client forever (0.26 to 0.32). None of our code runs in the core's process before
it starts its workers; these watch the server, and the core exits when one of its workers does.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn

import psutil

_VARIABLE = "ADAPTRY_ENGINE_OWNER"
_POLL_SECONDS = 0.5


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
    if parent == os.getpid():
        return
    wait = _way_to_wait_for(parent)
    threading.Thread(target=_kill_after, args=[wait], name="adaptry-parent", daemon=True).start()


def _way_to_wait_for(process: int) -> Callable[[], object]:
    """Without `pidfd_open`, which is of Linux 5.3 and not of every sandbox, it is asked for."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        _kill_self()
    except (AttributeError, OSError):
        return partial(_poll, process)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return poll.poll


def _poll(process: int) -> None:
    with suppress(psutil.NoSuchProcess):
        watched = psutil.Process(process)
        while watched.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_POLL_SECONDS)


def _kill_after(wait: Callable[[], object]) -> None:
    wait()
    _kill_self()


def _kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)  # nothing is left that an orderly exit would serve
    raise SystemExit  # not reached
