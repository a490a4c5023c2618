"""Exit of a fork: all that is registered for it runs, but nothing is taken apart then.

Python frees each object of each module at its end. A fork shares them with the process that has
imported them, and each page that is touched is copied: half a second of CPU in a server, and as
much in its engine.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_and_exit(program: Callable[[], object]) -> NoReturn:
    """With the exit code that Python would have; what it has to print of an end is left to it."""
    code = 0
    try:
        program()
    except SystemExit as ending:
        if not isinstance(ending.code, int | None):
            raise
        code = ending.code or 0
    vars(threading)["_shutdown"]()  # as multiprocessing does in its forks
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code)
