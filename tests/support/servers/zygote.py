"""Zygote: a process that has imported vLLM and forks servers, which then need not import it.

An import costs ten seconds of CPU in a server and as much in the process of its engine. A fork runs
the same command with the same arguments, environment, session and output. Its engine is a fork too,
made before the server does anything, and so are those that replace it and the worker of a stock
server's engine. They wait until they are needed; what is spawned after the last is spawned anew.

    python -m tests.support.servers.zygote MODULE...     imports these, then takes requests on stdin
"""

import gc
import importlib
import json
import os
import re
import runpy
import selectors
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import spawn, util
from typing import Any, NoReturn

from setproctitle import setproctitle

from tests.support.faults.inject import obey_harm
from tests.support.workers.exits import run_and_exit
from tests.support.workers.frozen import keep_frozen
from tests.support.workers.threads import require_one_thread

MAX_FDS = 32
STANDARD_FILES = (0, 1, 2)
SPAWNED = 4  # an engine and three that replace it
WATCHED = "engine.worker.extension"
EAGER = "TESTS_EAGER"  # in a server's environment: torch compiles nothing in it and its engine
_FD = re.compile(r"(\w+)=(\d+)")  # in the program that multiprocessing gives an interpreter


@dataclass(frozen=True)
class Request:
    """`python -m MODULE ARGUMENTS`, with both outputs appended to `log`.

    `generations`: of processes below it that are forked when they are spawned.
    """

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: str
    generations: int


def serve_forks() -> Request:
    """Fork a server for each line of stdin. Returns in the forks only.

    Prints a line for each that begins (`[pid, null]`) and each that ended (`[pid, code]`).
    """
    require_one_thread()
    assert WATCHED not in sys.modules, "its import begins to watch the server, in an engine"
    running: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if isinstance(key.fileobj, int):
                    selector.unregister(key.fileobj)
                    os.close(key.fileobj)
                    pid = running.pop(key.fileobj)
                    _say(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    continue
                line = sys.stdin.buffer.readline()
                if not line:
                    _end(list(running.values()))
                pid = os.fork()
                if pid == 0:
                    for pidfd in running:
                        os.close(pidfd)
                    return Request(**json.loads(line))
                pidfd = os.pidfd_open(pid)
                running[pidfd] = pid
                selector.register(pidfd, selectors.EVENT_READ)
                _say(pid, None)


def _say(pid: int, code: int | None) -> None:
    sys.stdout.write(json.dumps([pid, code]) + "\n")
    sys.stdout.flush()


def _end(pids: list[int]) -> NoReturn:
    """The tests have ended, perhaps killed."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def become(request: Request) -> NoReturn:
    """Run what was asked for, in the place of this process."""
    os.setsid()
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    replace_standard_files([nothing, log, os.dup(log)])
    os.environ.clear()
    os.environ.update(request.environment)
    obey_harm()
    if EAGER in os.environ:
        importlib.import_module("torch").compiler.set_stance("force_eager")
    spawn_by_fork(request.generations)
    sys.argv = [request.module, *request.arguments]
    setproctitle(shlex.join([sys.executable, "-m", request.module, *request.arguments]))
    run_and_exit(partial(runpy.run_module, request.module, run_name="__main__", alter_sys=True))


def spawn_by_fork(generations: int) -> None:
    """The next processes that multiprocessing spawns here are forks of this one as it is now."""
    unused: list[tuple[int, int]] = []  # files, as no object is to complain if it is never used
    for _ in range(SPAWNED):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            for _, other in unused:
                os.close(other)  # or the others would not see that the server has ended
            _forget_channel()
            _become_spawned(theirs, generations - 1)
        theirs.close()
        unused.append((pid, ours.detach()))
    spawn_anew = util.spawnv_passfds

    def spawn_forked(path: Any, arguments: Sequence[Any], fds: Sequence[int]) -> int:
        if "--multiprocessing-fork" not in arguments or not unused:
            return spawn_anew(path, arguments, fds)
        pid, number = unused.pop()
        call = {"arguments": [os.fsdecode(each) for each in arguments], "fds": list(fds)}
        # on its own: an environment may be longer than a packet
        file = os.memfd_create("environment")
        with os.fdopen(os.dup(file), "w") as written:
            json.dump(dict(os.environ), written)
        with socket.socket(fileno=number) as asked:
            socket.send_fds(asked, [json.dumps(call).encode()], [file, *STANDARD_FILES, *fds])
        os.close(file)
        return pid

    util.spawnv_passfds = spawn_forked  # type: ignore[assignment]  # what is spawned has strings


def _forget_channel() -> None:
    """In a process of xdist, its standard input and output are the channel to its controller."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    os.close(nothing)


def _become_spawned(asked: socket.socket, generations: int) -> NoReturn:
    """As the interpreter that multiprocessing starts: the same numbers of the same files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    packet, received, _, _ = socket.recv_fds(asked, 1 << 16, MAX_FDS)
    if not packet:
        os._exit(0)  # the server ended without an engine
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked.close()
    call = json.loads(packet)
    environment, standard, others = received[0], received[1:4], received[4:]
    with os.fdopen(environment) as file:
        file.seek(0)
        os.environ.clear()
        os.environ.update(json.load(file))
    replace_standard_files(standard)
    above = 1 + max(call["fds"] + received)
    moved = [_move(fd, above + place) for place, fd in enumerate(others)]
    for fd, wanted in zip(moved, call["fds"], strict=True):
        _move(fd, wanted)
    if generations:
        spawn_by_fork(generations)
    if WATCHED in sys.modules:  # its import did not watch: a test did it, in a process of tests
        importlib.import_module("engine.worker.parent_watch").watch_parent()
    *_, program, mark = call["arguments"]
    sys.argv = ["-c", mark]
    run_and_exit(partial(spawn.spawn_main, **{n: int(fd) for n, fd in _FD.findall(program)}))


def replace_standard_files(fds: Sequence[int]) -> None:
    for fd, standard in zip(fds, STANDARD_FILES, strict=True):
        _move(fd, standard)


def _move(fd: int, to: int) -> int:
    os.dup2(fd, to)
    os.close(fd)
    return to


def run(modules: Sequence[str]) -> NoReturn:
    setproctitle("zygote")  # finds its room beside the environment as it was at the start
    import_without_ray(modules)
    become(serve_forks())


def import_without_ray(modules: Sequence[str]) -> None:
    """vLLM imports Ray if it is there, which reads its settings and its token then.

    No fork's garbage collector walks through what was imported.
    """
    gc.disable()
    sys.modules["ray"] = None  # type: ignore[assignment]  # Python's way to say that it is missing
    for name in modules:
        importlib.import_module(name)
    del sys.modules["ray"]
    inspect_models_here()
    keep_frozen(ends_with_engine=True)
    gc.collect()
    gc.freeze()
    gc.enable()


def inspect_models_here() -> None:
    """For the first start with a model, vLLM imports its class in a process of its own.

    That is ten seconds of CPU, for each of a dozen models, on a machine without vLLM's notes of an
    earlier run. What it would import is here already.
    """
    models = sys.modules.get("vllm.model_executor.models.registry")
    if models is not None:
        vars(models)["_run_in_subprocess"] = _call


def _call(function: Callable[[], Any]) -> Any:
    return function()


if __name__ == "__main__":
    run(sys.argv[1:])
