"""Server of `adaptry demo` as a fork of a process that has imported vLLM.

The demo starts it by what it takes for Python: a small program, which asks the parent of zygotes
for a fork that runs the server, passes on the signals that end it, and lives as long as that.
"""

import os
import runpy
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil

from tests.support.workers import ray_workers
from tests.support.workers.ray_workers import START, RayWorkers, parent_of_zygotes, take_place_of

PROGRAM = r"""#!/bin/sh
[ "$1 $2 $3" = "-m adaptry serve" ] || exec {python} "$@"
trap "kill -INT \$(cat {pid})" INT
trap "kill -TERM \$(cat {pid})" TERM
{python} -I -S {start} {parent} "{become}($$, {pid!r}, {ray!r})" &
while kill -0 $! 2>/dev/null; do wait $!; done
"""
BECOME = "from tests.support.workers import demo_server; demo_server.become"


class ForkedDemo:
    """`ray`: the workers of its Ray, if it has replicas."""

    def __init__(self, folder: Path, ray: RayWorkers | None = None) -> None:
        self._program, self._pid = folder / "python-of-demo", folder / "server-of-demo"
        self._ray = ray
        text = PROGRAM.format(
            python=shlex.quote(sys.executable),
            start=shlex.quote(str(START)),
            parent=shlex.quote(parent_of_zygotes()),
            become=BECOME,
            pid=str(self._pid),
            ray=str(ray.program) if ray else "",
        )
        self._program.write_text(text)
        self._program.chmod(0o755)
        # it names the command that is installed beside Python
        (folder / "adaptry").symlink_to(Path(sys.executable).with_name("adaptry"))

    def command(self, *arguments: str) -> list[str]:
        """`adaptry demo ARGUMENTS`."""
        starts = (sys.executable, "-m", ray_workers.__name__, str(self._program))
        return [*starts, "adaptry", "demo", *arguments]

    def server_processes(self) -> list[psutil.Process]:
        """What is not below the demo itself."""
        server = psutil.Process(int(self._pid.read_text()))
        of_ray = self._ray.processes() if self._ray else []
        return [server, *server.children(recursive=True), *of_ray]


def become(asker: int, pid: str, ray: str) -> NoReturn:
    """The server that the demo has started as `asker`."""
    from tests.support.servers.zygote import spawn_by_fork
    from tests.support.workers.exits import run_and_exit

    os.setsid()
    words = take_place_of(asker)
    Path(pid).write_text(str(os.getpid()))
    spawn_by_fork(generations=1)
    if ray:
        sys.executable = ray
    sys.argv = words[words.index("adaptry") :]
    run_and_exit(partial(runpy.run_module, "adaptry", run_name="__main__", alter_sys=True))
