"""Parent watch: a worker ends with the server that its engine belongs to."""

import os
import subprocess
import sys

import pytest

from engine.worker.parent_watch import bind_engine_lifetime, watch_parent

WORKER = (
    "import time; from engine.worker.parent_watch import watch_parent; "
    "watch_parent(); print(flush=True)"
)
WITHOUT_PIDFD = """
import errno, os
def refuse(*_): raise OSError(errno.ENOSYS, "Function not implemented")
os.pidfd_open = refuse
"""
SERVER = """
import subprocess, sys
from engine.worker.parent_watch import bind_engine_lifetime
with bind_engine_lifetime():
    worker = subprocess.Popen([sys.executable, "-c", sys.argv[1] + "; time.sleep(600)"])
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.parametrize("kernel", ["", WITHOUT_PIDFD], ids=["with pidfd", "without"])
def test_a_worker_ends_when_its_server_is_killed(kernel: str) -> None:
    command = [sys.executable, "-c", SERVER, kernel + WORKER]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    assert server.stdout.readline() == "\n", "it watches"
    os.kill(worker, 0)
    server.kill()
    server.wait()
    assert server.stdout.read() == "", "this ends when the worker's end of the pipe is closed"
    server.stdout.close()


@pytest.mark.parametrize("kernel", ["", WITHOUT_PIDFD], ids=["with pidfd", "without"])
def test_a_worker_does_not_start_after_its_server_has_ended(kernel: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    environment = {**os.environ, "ADAPTRY_ENGINE_OWNER": str(ended.pid)}
    watching = f"{kernel}{WORKER}; time.sleep(600)"
    worker = subprocess.run([sys.executable, "-c", watching], env=environment, check=False)
    assert worker.returncode == -9


def test_an_engine_in_its_parents_own_process_continues() -> None:
    with bind_engine_lifetime():
        watch_parent()


def test_other_child_processes_are_not_affected() -> None:
    before = dict(os.environ)
    with bind_engine_lifetime():
        assert os.environ["ADAPTRY_ENGINE_OWNER"] == str(os.getpid())
    assert dict(os.environ) == before
