"""Zygotes: what they import is imported once, for the zygotes, their servers and the engines."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.faults.inject import Harm, preloading
from tests.support.servers.forked_server import ROOT, Zygote, fork_zygote
from tests.support.servers.zygote import SPAWNED
from tests.support.workers.forks import ZYGOTES, start_parent
from tests.support.workers.ray_workers import RayWorkers

NOTES_ITS_IMPORT = """
import gc, os
from pathlib import Path

LARGE = [[] for _ in range(100_000)]

with Path(__file__).with_name("imports").open("a") as file:
    print(os.getpid(), file=file)

def note_process():
    with Path(__file__).with_name("engines").open("a") as file:
        print(os.getpid(), os.getppid(), gc.get_freeze_count(), file=file)
"""
SPAWNS = """
import multiprocessing
from slow_to_import import note_process

if __name__ == "__main__":
    for _ in range({engines}):
        process = multiprocessing.get_context("spawn").Process(target=note_process)
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
"""
WAITS = """
import multiprocessing, time
from slow_to_import import note_process

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=note_process)
    process.start()
    process.join()
    print("waits", flush=True)
    time.sleep(60)
"""
STARTS_WORKER = """
import subprocess, sys

subprocess.run([sys.executable, sys.argv[1], "--name=two words"])
print(subprocess.check_output([sys.executable, "-c", "print(1 + 1)"], text=True))
"""
WORKER = """
import json, os, sys
from slow_to_import import note_process

print(json.dumps([os.getpid(), os.getpgrp(), sys.argv[1:], os.environ["GIVEN"]]), flush=True)
sys.stdin.readline()
"""
SAYS_THE_TIME = "import time; print(time.time())"
ENDS = """
import atexit, os, sys, threading, time

class Kept:
    def __del__(self):
        os.write(1, b"taken apart")

def end_later():
    time.sleep(0.1)
    print("the thread has ended")

sys.modules["kept"] = Kept()
atexit.register(print, "what is registered has run")
threading.Thread(target=end_later).start()
sys.exit(3)
"""
HOUR = 3600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers and what they import are found."""
    (tmp_path / "slow_to_import.py").write_text(NOTES_ITS_IMPORT)
    (tmp_path / "server_of_engines.py").write_text(SPAWNS.format(engines=SPAWNED))
    (tmp_path / "server_that_waits.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def pids(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()]


def serve(zygote: Zygote, log: Path) -> int:
    command = [sys.executable, "-m", "server_of_engines"]
    server = zygote.fork(command, dict(os.environ), log, 1)
    assert server.wait(60) == 0, log.read_text()
    return server.pid


def test_engines_that_replace_others_are_forks_too(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.support.servers.zygote", "slow_to_import"]
    zygote = Zygote(command, os.environ)
    try:
        server = serve(zygote, folder / "log")
    finally:
        zygote.close()
    engines = pids(folder / "engines")
    assert {parent for _, parent, _ in engines} == {str(server)}
    assert len({own for own, _, _ in engines}) == SPAWNED
    assert all(int(frozen) > 100_000 for _, _, frozen in engines), "no collection looks at these"
    assert len(pids(folder / "imports")) == 1


def test_those_that_wait_end_with_a_server_that_is_killed(folder: Path) -> None:
    zygote = Zygote([sys.executable, "-m", "tests.support.servers.zygote"], os.environ)
    log = folder / "log"
    log.touch()
    try:
        server = zygote.fork([sys.executable, "-m", "server_that_waits"], dict(os.environ), log, 1)
        deadline = time.monotonic() + 30
        while "waits" not in log.read_text():
            assert time.monotonic() < deadline, "it has not begun to wait"
            time.sleep(0.05)
        waiting = psutil.Process(server.pid).children(recursive=True)
        assert len(waiting) >= SPAWNED - 1
        server.kill()
        _, alive = psutil.wait_procs(waiting, 10)
        assert alive == []
    finally:
        zygote.close()


def test_zygotes_of_one_parent_share_its_imports(folder: Path) -> None:
    with ExitStack() as stack:
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-zygotes-"))
        parent = f"{sockets}/parent"
        start_parent(stack, parent, ZYGOTES, ROOT, ["slow_to_import"])
        for n in range(2):
            zygote = Zygote(fork_zygote(parent, ["json"]), os.environ)
            stack.callback(zygote.close)
            serve(zygote, folder / f"log-{n}")
    assert len(pids(folder / "engines")) == 2 * SPAWNED
    assert len(pids(folder / "imports")) == 1


def test_a_fork_is_harmed_that_is_given_a_harm(folder: Path) -> None:
    (folder / "says_the_time.py").write_text(SAYS_THE_TIME)
    harm = Harm(folder)
    harm.set_clock(HOUR)
    ahead: list[float] = []
    with ExitStack() as stack:
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-zygotes-"))
        parent = f"{sockets}/parent"
        start_parent(stack, parent, ZYGOTES, ROOT, ["json"], preloading(os.environ))
        zygote = Zygote(fork_zygote(parent, ["json"]), os.environ)
        stack.callback(zygote.close)
        for variables in ({}, harm.environment, {}):
            log = folder / f"log-{len(ahead)}"
            command = [sys.executable, "-m", "says_the_time"]
            server = zygote.fork(command, {**os.environ, **variables}, log, 1)
            assert server.wait(60) == 0, log.read_text()
            ahead.append(float(log.read_text()) - time.time())
    assert [seconds > HOUR / 2 for seconds in ahead] == [False, True, False]


def test_a_fork_ends_as_python_does_but_takes_nothing_apart(folder: Path) -> None:
    """It would copy each page that it shares with the process that it was forked from."""
    (folder / "ends.py").write_text(ENDS)
    zygote = Zygote([sys.executable, "-m", "tests.support.servers.zygote"], os.environ)
    try:
        server = zygote.fork([sys.executable, "-m", "ends"], dict(os.environ), folder / "log", 1)
        assert server.wait(60) == 3
    finally:
        zygote.close()
    said = (folder / "log").read_text()
    assert said == "the thread has ended\nwhat is registered has run\n"


def test_a_worker_of_ray_is_a_fork_with_its_own_arguments(folder: Path) -> None:
    (folder / "starts_worker.py").write_text(STARTS_WORKER)
    worker = folder / "default_worker.py"
    worker.write_text(WORKER)
    with ExitStack() as stack:
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-zygotes-"))
        parent = f"{sockets}/parent"
        start_parent(stack, parent, ZYGOTES, ROOT, ["slow_to_import"])
        workers = RayWorkers(folder, parent)
        ray = subprocess.Popen(
            workers.command("starts_worker", str(worker)),
            env={**os.environ, "GIVEN": "to it"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.enter_context(ray)
        assert ray.stdin is not None
        assert ray.stdout is not None
        pid, group, *given = json.loads(ray.stdout.readline())
        running = workers.processes()
        ray.stdin.close()
        assert ray.stdout.read() == "2\n\n", "all else is executed"
        assert psutil.wait_procs(running, 30)[1] == [], "not even as a zombie"
    assert pid in [process.pid for process in running]
    assert group == pid, "raylet ends the whole group of a worker"
    assert given == [["--name=two words"], "to it"]
    assert len(pids(folder / "imports")) == 1
