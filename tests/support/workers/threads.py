"""Threads of a process that is to be forked: a fork has none but the one that forks."""

import os
import sys
import threading
from pathlib import Path

TASKS = Path("/proc/self/task")


def other_threads() -> dict[int, str]:
    """Name of each but the main one, of libraries' own too."""
    names = {each.native_id: each.name for each in threading.enumerate()}
    found = {}
    for task in sorted(int(name) for name in os.listdir(TASKS)):
        if task != os.getpid():
            found[task] = names.get(task) or (TASKS / str(task) / "comm").read_text().strip()
    return found


def require_one_thread() -> None:
    """Ends the process with one line if a fork of it would lose a thread of an import."""
    if threads := other_threads():
        sys.exit(f"an import has started threads, which a fork would lose: {in_words(threads)}")


def in_words(threads: dict[int, str]) -> str:
    return ", ".join(threads.values())
