"""Forks: xdist's processes are forked from one that has collected the tests."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

PARENT, START = (Path(__file__).with_name(name) for name in ("parent.py", "start.py"))

_parent = pytest.StashKey[ExitStack]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """After the options of xdist, before its processes."""
    if hasattr(config, "workerinput") or "popen" not in (config.getoption("tx", None) or ()):
        return
    stack = config.stash[_parent] = ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-tests-"))
    path = f"{folder}/parent"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        number = listening.fileno()
        program = (sys.executable, str(PARENT), str(number), os.pathsep.join(sys.path))
        parent = subprocess.Popen(
            [*program, *config.invocation_params.args],
            cwd=config.invocation_params.dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[number],
        )
    stack.enter_context(parent)
    start = shlex.join([sys.executable, "-I", "-S", str(START), path])
    forked = f"popen//python={start}"
    config.option.tx = [forked if each == "popen" else each for each in config.option.tx]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _parent in config.stash:
        config.stash[_parent].close()
