"""Idle threads: the next work takes one of them, and none that hangs or is gone."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

from registry.sources.disks.idle_threads import IdleThreads

ROOT = Path(__file__).resolve().parents[3]


class Noted:
    """Work that says in which thread it was done."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self._done = threading.Semaphore(0)

    def __call__(self) -> None:
        self.threads.append(threading.current_thread())
        self._done.release()

    def wait(self) -> threading.Thread:
        assert self._done.acquire(timeout=20)
        return self.threads[-1]


def until_idle(threads: IdleThreads, count: int = 1) -> None:
    ends = time.monotonic() + 20
    while len(threads._idle) != count:
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_one_thread_does_one_work_after_the_other() -> None:
    threads, noted = IdleThreads("test"), Noted()
    for _ in range(5):
        threads.run(noted)
        noted.wait()
        until_idle(threads)
    assert len({thread.ident for thread in noted.threads}) == 1


def test_a_thread_whose_work_hangs_holds_up_no_other_work() -> None:
    threads, noted, go_on = IdleThreads("test"), Noted(), threading.Event()
    threads.run(lambda: go_on.wait(20))
    for _ in range(2):
        threads.run(noted)
        noted.wait()
        until_idle(threads)
    go_on.set()
    until_idle(threads, 2)


def test_a_thread_that_nobody_needs_ends_and_another_one_begins() -> None:
    threads, noted = IdleThreads("test", idle_seconds=0.01), Noted()
    for _ in range(2):
        threads.run(noted)
        thread = noted.wait()
        thread.join(20)
        assert not thread.is_alive()
    assert not threads._idle


def test_an_idle_thread_keeps_nothing_of_its_last_work() -> None:
    threads, seen = IdleThreads("test"), []
    for _ in range(2):  # in a new thread, and in an idle one
        noted = Noted()
        threads.run(noted)
        noted.wait()
        until_idle(threads)
        seen.append(weakref.ref(noted))
        del noted
    gc.collect()
    assert [each() for each in seen] == [None, None]


def test_a_child_that_was_forked_off_begins_threads_of_its_own() -> None:
    """It has none of its parent's, and would wait for them for ever."""
    program = (
        "import os, threading, time\n"
        "from registry.sources.disks.idle_threads import IdleThreads\n"
        "threads, done = IdleThreads('test'), threading.Event()\n"
        "threads.run(done.set)\n"
        "done.wait(20)\n"
        "while not threads._idle:\n"
        "    time.sleep(0.001)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    done.clear()\n"
        "    threads.run(done.set)\n"
        "    os._exit(0 if done.wait(20) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "0\n"
