"""Servers forked from a zygote, as if `subprocess.Popen` had started them."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.support.faults.inject import preloading
from tests.support.servers.zygote import Request
from tests.support.workers.start import ask

ROOT = Path(__file__).resolve().parents[3]
VLLM = (
    "vllm.entrypoints.openai.api_server",
    "vllm.model_executor.models.llama",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
)
OURS = ("adaptry.serve.command", "engine.app")
PARENT_OF_ZYGOTES = "TESTS_PARENT_OF_ZYGOTES"  # has its socket, in a process of xdist
START_SECONDS = 480.0


class ForkedServer:
    """The part of `subprocess.Popen` that tests of servers use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode if self.ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"server {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if not self.ended.is_set():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Its process ends with this one, and so do its servers."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=dict(environment),
            text=True,
        )
        self._servers: dict[int, ForkedServer] = {}
        self._began = threading.Condition()
        self._pids: list[int] = []
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)

    def fork(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, generations: int
    ) -> ForkedServer:
        """`command` is `PYTHON -m MODULE ARGUMENTS`."""
        python, flag, module, *arguments = command
        assert (python, flag) == (sys.executable, "-m"), command
        request = Request(module, arguments, environment, str(log), generations)
        assert self._process.stdin is not None
        with self._began:
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
            if not self._began.wait_for(lambda: self._pids, START_SECONDS):
                self._process.kill()  # or its late answer would be taken for the next one
                raise TimeoutError(f"no server was forked within {START_SECONDS:g} s")
            return self._servers[self._pids.pop()]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.startswith("["):
                continue  # a log line: vLLM writes some when it finds a Triton without a GPU
            pid, code = json.loads(line)
            with self._began:
                if code is None:
                    self._servers[pid] = ForkedServer(pid)
                    self._pids.append(pid)
                    self._began.notify()
                else:
                    server = self._servers.pop(pid)
                    server.returncode = code
                    server.ended.set()

    def close(self) -> None:
        self._process.communicate(timeout=30)


def fork_zygote(parent: str, modules: Sequence[str]) -> list[str]:
    """Its command, where a parent of zygotes listens at this path."""
    return [*ask(parent), f"from tests.support.servers import zygote; zygote.run({modules!r})"]


@cache
def _zygote(modules: tuple[str, ...]) -> Zygote:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment["OMP_NUM_THREADS"] = "1"
    if (parent := os.environ.get(PARENT_OF_ZYGOTES)) is not None:
        return Zygote(fork_zygote(parent, modules), environment)
    command = [sys.executable, "-m", "tests.support.servers.zygote", *modules]
    return Zygote(command, preloading(environment))


def _modules(stock: bool) -> tuple[str, ...]:
    return VLLM if stock else (*VLLM, *OURS)


def import_beside() -> None:
    """Both kinds of parents begin to import, for a test that needs both."""
    for stock in (True, False):
        _zygote(_modules(stock))


def fork_server(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, stock: bool = False
) -> ForkedServer:
    """`stock`: a server of vLLM, in whose process nothing of ours is imported."""
    assert environment["OMP_NUM_THREADS"] == "1"  # as the zygote's, which has read it
    zygote = _zygote(_modules(stock))
    # ours runs the model in the engine's process, a stock one in a worker's below it
    return zygote.fork(command, environment, log, 2 if stock else 1)
