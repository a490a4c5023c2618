"""Ray's workers as forks of a process that has imported vLLM, and so are the replicas' engines.

What raylet executes in place of Python is a small program, which asks the parent of zygotes for a
fork that runs the worker, with its arguments, environment and standard files, and lives as long as
that. It executes all else that Ray would.

    python -m tests.support.workers.ray_workers PROGRAM MODULE ARGUMENTS      starts Ray with it
"""

import atexit
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

import psutil

from tests.support.workers.start import ask

START = Path(__file__).with_name("start.py")
PROGRAM = """#!/bin/sh
case "$1" in
*/default_worker.py) exec {python} -I -S {start} {parent} "$@" "{become}($$, {pids!r})" ;;
*) exec {python} "$@" ;;
esac
"""
BECOME = "from tests.support.workers import ray_workers; ray_workers.become"


class RayWorkers:
    """Workers of one cluster, forked by the parent that listens at this path."""

    def __init__(self, folder: Path, parent: str) -> None:
        self.program, self._pids = folder / "python-of-ray", folder / "workers-of-ray"
        self._pids.mkdir()  # a file for each that has begun
        # until it has imported what workers need, which raylet does not wait for
        subprocess.run([*ask(parent), "import os; os._exit(0)"], check=True)
        words = (sys.executable, str(START), parent)
        python, start, parent = map(shlex.quote, words)
        text = PROGRAM.format(
            python=python, start=start, parent=parent, become=BECOME, pids=str(self._pids)
        )
        self.program.write_text(text)
        self.program.chmod(0o755)

    def command(self, module: str, *arguments: str) -> list[str]:
        """`python -m MODULE ARGUMENTS`, whose Ray has these workers."""
        return [sys.executable, "-m", __name__, str(self.program), module, *arguments]

    def processes(self) -> list[psutil.Process]:
        """Those that run, with all below them."""
        found = []
        for file in self._pids.iterdir():
            try:
                worker = psutil.Process(int(file.name))
                found += [worker, *worker.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found


@cache
def parent_of_zygotes() -> str:
    """Where it listens. That of the whole run, else one for this process."""
    from tests.support.servers.forked_server import PARENT_OF_ZYGOTES, ROOT, VLLM
    from tests.support.workers.forks import ZYGOTES, start_parent

    if PARENT_OF_ZYGOTES in os.environ:
        return os.environ[PARENT_OF_ZYGOTES]
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-tests-"))
    start_parent(stack, path := f"{folder}/zygotes", ZYGOTES, ROOT, VLLM)
    return path


def become(asker: int, pids: str) -> NoReturn:
    """The worker that raylet has started as `asker`, in the place of this process."""
    from setproctitle import setproctitle

    from tests.support.servers.zygote import spawn_by_fork
    from tests.support.workers.exits import run_and_exit

    os.setpgrp()  # raylet ends the whole group of a worker that has died
    words = take_place_of(asker)
    Path(pids, str(os.getpid())).touch()
    setproctitle("worker of Ray")
    spawn_by_fork(generations=1)
    import ray

    # its own finds no room for a title beside an environment that was changed
    vars(ray._raylet)["setproctitle"] = setproctitle
    at = words.index(str(START))
    sys.argv = words[at + 2 : -1]
    run_and_exit(partial(runpy.run_path, sys.argv[0], run_name="__main__"))


def take_place_of(asker: int) -> list[str]:
    """Its environment and its folder; returns its command."""
    process = Path("/proc") / str(asker)
    variables = (process / "environ").read_bytes().split(b"\0")
    os.environ.clear()
    for name, equals, value in (os.fsdecode(each).partition("=") for each in variables):
        if equals:
            os.environ[name] = value
    os.chdir(process / "cwd")
    return [os.fsdecode(each) for each in (process / "cmdline").read_bytes().split(b"\0")[:-1]]


if __name__ == "__main__":
    _, sys.executable, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
