"""Forks: xdist's processes are forked from one that has collected the tests.

The zygotes of all of them are forked from one that imports vLLM when the first is asked for.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.faults.inject import preloading
from tests.support.servers.forked_server import PARENT_OF_ZYGOTES, ROOT, VLLM
from tests.support.workers.start import ask, short_path

PARENT, ZYGOTES = (Path(__file__).with_name(name) for name in ("parent.py", "zygotes.py"))

_parent = pytest.StashKey[ExitStack]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """After the options of xdist, before its processes. To list the tests, it has none."""
    if hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if "popen" not in (config.getoption("tx", None) or ()):
        return
    stack = config.stash[_parent] = ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptry-tests-"))
    zygotes = f"{folder}/zygotes"
    start_parent(stack, zygotes, ZYGOTES, ROOT, VLLM, preloading(os.environ))
    os.environ[PARENT_OF_ZYGOTES] = zygotes
    stack.callback(os.environ.pop, PARENT_OF_ZYGOTES)
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and not selects(config):
        import_beside(stack, zygotes)
    parent = f"{folder}/parent"
    invocation = config.invocation_params
    start_parent(stack, parent, PARENT, invocation.dir, invocation.args)
    forked = f"popen//python={shlex.join(ask(parent))}"
    config.option.tx = [forked if each == "popen" else each for each in config.option.tx]


def selects(config: pytest.Config) -> bool:
    return any(config.getoption(name) for name in ("keyword", "markexpr"))


def import_beside(stack: ExitStack, parent: str) -> None:
    """Servers will be asked for: their imports take a core that idles while tests are collected."""
    asking = subprocess.Popen([*ask(parent), "import os; os._exit(0)"])
    stack.enter_context(asking)


def start_parent(
    stack: ExitStack,
    path: str,
    program: Path,
    cwd: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> None:
    """It listens at this path, and ends with the stack."""
    with socket.socket(socket.AF_UNIX) as listening:
        with short_path(path) as short:
            listening.bind(short)
        listening.listen()
        number = listening.fileno()
        command = (sys.executable, str(program), str(number), os.pathsep.join(sys.path))
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[number],
        )
    stack.enter_context(process)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _parent in config.stash:
        config.stash[_parent].close()
