"""Parent watch: a worker ends with the server that its engine belongs to."""

import os
import subprocess
import sys

from engine.worker.parent_watch import bind_engine_lifetime, watch_parent

WORKER = (
    "import time; from engine.worker.parent_watch import watch_parent; "
    "watch_parent(); print(flush=True)"
)
SERVER = f"""
import subprocess, sys
from engine.worker.parent_watch import bind_engine_lifetime
with bind_engine_lifetime():
    worker = subprocess.Popen([sys.executable, "-c", {WORKER!r} + "; time.sleep(600)"])
print(worker.pid, flush=True)
worker.wait()
"""


def test_a_worker_ends_when_its_server_is_killed() -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    assert server.stdout.readline() == "\n", "it watches"
    os.kill(worker, 0)
    server.kill()
    server.wait()
    assert server.stdout.read() == "", "this ends when the worker's end of the pipe is closed"
    server.stdout.close()


def test_a_worker_does_not_start_after_its_server_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    environment = {**os.environ, "ADAPTRY_ENGINE_OWNER": str(ended.pid)}
    worker = subprocess.run([sys.executable, "-c", WORKER], env=environment, check=False)
    assert worker.returncode == -9


def test_an_engine_in_its_parents_own_process_continues() -> None:
    with bind_engine_lifetime():
        watch_parent()


def test_other_child_processes_are_not_affected() -> None:
    before = dict(os.environ)
    with bind_engine_lifetime():
        assert os.environ["ADAPTRY_ENGINE_OWNER"] == str(os.getpid())
    assert dict(os.environ) == before
