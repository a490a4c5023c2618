"""A real `adaptry serve` over the demo model, as a process of its own that may be hurt."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from demo.tasks import TASKS, prompt_for
from tests.support.metrics_text import total
from tests.support.servers.forked_server import ForkedServer, fork_server

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 480.0


class ServedDemo:
    """Keeps its state in one folder, so that it can be started again on it."""

    forks = True  # from a process that has imported vLLM; else it is executed

    def __init__(self, folder: Path, *, database: str | None = None, **settings: str) -> None:
        self.folder = folder
        self.base = ROOT / "demo" / "base"
        self.sources = ROOT / "demo"
        self.database = database
        self.settings = settings
        self.arguments: tuple[str, ...] = ()  # more of them, for `adaptry serve`
        self.log = folder / "server.log"
        # uvicorn closes a connection that was idle for 5 s: one that is about to be is not used
        limits = httpx.Limits(max_keepalive_connections=10, keepalive_expiry=2)
        self.client = httpx.Client(timeout=60, limits=limits)
        self.variables: dict[str, str] = {}  # more of them, for its environment
        self.port: int | None = None  # the same one whenever it is started again
        self._process: subprocess.Popen[bytes] | ForkedServer | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        self.launch()
        self.wait_until(self.is_ready, START_SECONDS)

    def launch(self) -> None:
        if self.port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self.client.base_url = httpx.URL(self.url())
        settings = {f"ADAPTRY_{name.upper()}": value for name, value in self.settings.items()}
        environment = {**inherited(), **settings, **self.variables}
        if self.forks:
            self._process = fork_server(self.command(self.port), environment, self.log)
            return
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command(self.port),
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "adaptry", "serve", str(self.base)),
            *("--profile", "demo", "--dtype", "float32", "--port", str(port)),
            *("--database", self.database or f"sqlite:///{self.folder}/registry.db"),
            *("--store", f"{self.folder}/store", "--source-root", str(self.sources)),
            "--disable-uvicorn-access-log",
            *self.arguments,
        ]

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def engine_process(self) -> psutil.Process:
        """vLLM's own, which holds the model."""
        (core,) = filter(is_engine, self.process.children(recursive=True))
        return core

    def is_ready(self) -> bool:
        try:
            return self.client.get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def exit_code(self, seconds: float) -> int:
        """Of a server that was told to end."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> list[psutil.Process]:
        """As the kernel does for want of memory: the server alone. Returns its children."""
        family = self.process.children(recursive=True)
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        return family

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Gently, as a service manager would."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(90)  # on a machine that does much else
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait(10)

    def register(self, name: str) -> None:
        source = ROOT / "demo" / "adapters" / name
        body = {"source": str(source)}
        response = self.client.post(f"/api/v1/adapters/{name}/versions", json=body)
        assert response.status_code in (200, 201), response.text

    def complete(
        self, model: str, word: str = "hello", *, timeout: float | None = None, **options: Any
    ) -> httpx.Response:
        """`timeout`: by default, the client's."""
        body = {"model": model, "prompt": prompt_for(word), "temperature": 0, "max_tokens": 32}
        limit = self.client.timeout if timeout is None else timeout
        return self.client.post("/v1/completions", json=body | options, timeout=limit)

    def answers_right(self, model: str, word: str = "hello") -> bool:
        response = self.complete(model, word)
        assert response.status_code == 200, response.text
        return bool(response.json()["choices"][0]["text"] == TASKS[model].answer(word))

    def cache(self) -> dict[str, Any]:
        cache: dict[str, Any] = self.client.get("/api/v1/cache").json()
        return cache

    def residents(self, tier: str) -> set[str]:
        return {resident["reference"].partition(":")[0] for resident in self.cache()[tier]}

    def metric(self, sample: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(f"{sample} is not on /metrics")

    def total(self, name: str, **labels: str) -> float:
        """Of all series of a metric that have these labels."""
        return total(self.client.get("/metrics").text, name, **labels)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line[:200] for line in lines[-40:])

    def wait_until(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, self.last_words()
            assert time.monotonic() < deadline, self.last_words()
            time.sleep(0.1)


def is_engine(process: psutil.Process) -> bool:
    """vLLM's own process; the kernel keeps 15 letters of its title.

    It has none where the first variable of its environment was changed before: setproctitle finds
    nothing then. Ray gives its workers their variables in no order.
    """
    try:
        shown = f"{process.name()} {' '.join(process.cmdline())}"
        return "EngineCor" in shown or "multiprocessing.spawn import spawn_main" in shown
    except psutil.NoSuchProcess:
        return False


def inherited() -> dict[str, str]:
    import os

    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
