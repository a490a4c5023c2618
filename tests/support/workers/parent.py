"""Parent of xdist's processes: collects the tests once, then forks for each process.

Imports of libraries and tests, with the assertions rewritten, are most of the CPU time before a
process's first test. A fork has them, and finds its tests in a fraction of the time. So do the
engines of vLLM that tests start in their own process, where the tests have imported it.

    python parent.py FD PATH ARGUMENTS      of pytest; PATH is where modules are found

Forks for each that connects at the socket FD, until stdin ends. If an import has left a thread,
which a fork would lose, it says so, and each has to import the tests itself.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import NoReturn

from setproctitle import setproctitle

STANDARD_FILES = (0, 1, 2)
MAX_BYTES = 4096
THREADS_OF_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def collect(arguments: Sequence[str]) -> str | None:
    """In one thread, as a fork has no other: BLAS makes its threads when it is loaded.

    Returns which import has left a thread nevertheless.
    """
    import pytest  # not in a zygote, which needs only the rest of this module

    from tests.support.workers.import_threads import ThreadsOfImports

    done = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    before = {name: os.environ.get(name) for name in THREADS_OF_BLAS}
    os.environ.update(dict.fromkeys(before, "1"))
    # without capture: a library that keeps sys.stdout as it is now would keep a file that is closed
    options = ("--collect-only", "-qq", "-n0", "--junitxml=", "--capture=no")
    threads = ThreadsOfImports()
    if pytest.main([*arguments, *options], plugins=[threads]) not in done:
        forget_tests()
    import_engine()
    for name, number in before.items():
        del os.environ[name]
        if number is not None:
            os.environ[name] = number
    return threads.in_words()


def import_engine() -> None:
    """What only the process of an engine would import, where the tests have imported its client."""
    if "vllm.v1.engine.async_llm" in sys.modules:
        from tests.support.servers.forked_server import VLLM
        from tests.support.servers.zygote import inspect_models_here
        from tests.support.workers.frozen import keep_frozen

        for name in VLLM:
            importlib.import_module(name)
        inspect_models_here()
        keep_frozen(ends_with_engine=False)
        gc.collect()
        gc.freeze()  # for the collectors of the engines, as `garbage` does for those of tests


def fork_engines() -> None:
    """The next engines of this process are forks of it, and so are their workers."""
    if "vllm.v1.engine.core" in sys.modules:
        from tests.support.servers.zygote import spawn_by_fork

        spawn_by_fork(generations=2)


def forget_tests() -> None:
    """So that forks import them again, and report what fails: pytest leaves it as it broke off."""
    for name in list(sys.modules):
        if name.rpartition(".")[2].startswith(("test_", "conftest")):
            del sys.modules[name]


def fork_for_each(listening: socket.socket) -> socket.socket:
    """Returns in the forks only: who asked for it."""
    # Ctrl-C reaches all processes: this one has to remain, to kill the forks that do not end by it
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, int] = {}  # process by its pidfd
    while True:
        ready, _, _ = select.select([sys.stdin, listening, *running], [], [])
        if sys.stdin in ready:
            _end(list(running.values()))
        for ended in running.keys() & set(ready):
            os.waitpid(running.pop(ended), 0)  # or it would be there still, as a zombie
            os.close(ended)
        if listening not in ready:
            continue
        asker, _ = listening.accept()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, interrupt)
            listening.close()
            for other in running:
                os.close(other)
            return asker
        asker.close()
        running[os.pidfd_open(pid)] = pid


def _end(pids: list[int]) -> NoReturn:
    """The tests have ended, perhaps killed."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # so that its CPU time counts
    os._exit(0)


def refuse_each(listening: socket.socket) -> NoReturn:
    from tests.support.workers.start import NOT_FORKED  # found once sys.path is set

    while True:
        ready, _, _ = select.select([sys.stdin, listening], [], [])
        if sys.stdin in ready:
            _end([])
        asker, _ = listening.accept()
        with asker, suppress(ConnectionError):  # it was killed meanwhile
            for file in socket.recv_fds(asker, MAX_BYTES, len(STANDARD_FILES))[1]:
                os.close(file)
            asker.send(NOT_FORKED)


def become(asker: socket.socket, first: Callable[[], None] | None = None) -> NoReturn:
    """`python -c PROGRAM` with the files of the asker, who sees this process's end."""
    from tests.support.workers.exits import run_and_exit
    from tests.support.workers.start import FORKED

    program, files, _, _ = socket.recv_fds(asker, MAX_BYTES, len(STANDARD_FILES))
    asker.send(FORKED)
    asker.detach()  # open until this process ends
    for file, standard in zip(files, STANDARD_FILES, strict=True):
        os.dup2(file, standard)
        os.close(file)
    if first is not None:
        first()
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = ModuleType("__main__")
    run_and_exit(partial(exec, program, main.__dict__))


if __name__ == "__main__":
    setproctitle("parent of tests")  # finds its room beside the environment as it was at the start
    number, path, *arguments = sys.argv[1:]
    sys.path[:] = path.split(os.pathsep)
    with socket.socket(fileno=int(number)) as listening:
        if threads := collect(arguments):
            sys.stderr.write(f"tests are imported by each process, not forked: {threads}\n")
            refuse_each(listening)
        asker = fork_for_each(listening)
    become(asker, fork_engines)
