"""Server wrapper that records the number of asyncio tasks every few seconds.

    python -m benchmarks.soak.server MODULE ARGUMENTS…

The number goes to the file that `BENCHMARK_TASKS` names.
"""

import asyncio
import contextlib
import os
import runpy
import sys
import threading
import time
from pathlib import Path

TASKS_VARIABLE = "BENCHMARK_TASKS"
_SECONDS = 2.0
_loops: list[asyncio.AbstractEventLoop] = []


def _watch(file: Path) -> None:
    while True:
        loop = _running_loop()  # not the first there is: some live for one question
        while loop.is_running():
            with contextlib.suppress(RuntimeError):  # it changed all the time; the next will do
                written = file.with_suffix(".new")
                written.write_text(str(len(asyncio.all_tasks(loop))))
                written.replace(file)  # no reader sees half a number
            time.sleep(_SECONDS)


def _running_loop() -> asyncio.AbstractEventLoop:
    while True:
        for found in list(_loops):
            if found.is_running():
                return found
            if found.is_closed():
                _loops.remove(found)
        time.sleep(_SECONDS)


def _note_loops() -> None:
    """All that run from now on, uvloop's too, which takes this function from asyncio.

    Not found among all objects: there it may see a tuple that another thread is about to fill, and
    CPython 3.11 then fails in that thread with a SystemError.
    """
    set_running_loop = asyncio._set_running_loop

    def noting(loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None:
            _loops.append(loop)
        set_running_loop(loop)

    asyncio._set_running_loop = asyncio.events._set_running_loop = noting


if __name__ == "__main__":
    file = Path(os.environ[TASKS_VARIABLE])
    _note_loops()
    threading.Thread(target=_watch, args=(file,), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
