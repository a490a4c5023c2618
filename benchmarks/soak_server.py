"""Runs a server and writes down, every few seconds, how many asyncio tasks it has.

    python -m benchmarks.soak_server MODULE ARGUMENTS…

The number goes to the file that `BENCHMARK_TASKS` names.
"""

import asyncio
import contextlib
import gc
import os
import runpy
import sys
import threading
import time
from pathlib import Path

TASKS_VARIABLE = "BENCHMARK_TASKS"
_SECONDS = 2.0


def _watch(file: Path) -> None:
    while True:
        loop = _running_loop()  # not the first there is: some live for one question
        while loop.is_running():
            with contextlib.suppress(RuntimeError):  # it changed all the time; the next will do
                written = file.with_suffix(".new")
                written.write_text(str(len(asyncio.all_tasks(loop))))
                written.replace(file)  # nobody reads half a number
            time.sleep(_SECONDS)


def _running_loop() -> asyncio.AbstractEventLoop:
    while True:
        for found in gc.get_objects():
            if isinstance(found, asyncio.AbstractEventLoop) and found.is_running():
                return found
        time.sleep(_SECONDS)


if __name__ == "__main__":
    file = Path(os.environ[TASKS_VARIABLE])
    threading.Thread(target=_watch, args=(file,), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
