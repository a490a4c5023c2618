"""One real engine for the whole session: vLLM with the demo model, served over real HTTP."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 480
OURS = ("adaptry", "engine", "fleet", "guest", "registry")

pytest_plugins = [
    "tests.support.databases.fixtures",
    "tests.support.garbage",
    "tests.support.hypothesis_profile",
    "tests.support.scheduling",
    "tests.support.tls_contexts",
    "tests.support.workers.forks",
]

Answer = TypeVar("Answer")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of faults and fuzzing")
    device = "run tests/gpu too, on an engine there"
    parser.addoption("--engine-on", choices=("cuda", "cpu"), help=device)


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    """More rounds, clients and inputs, with the same assertions."""
    return bool(pytestconfig.getoption("--long"))


def pytest_configure() -> None:
    """Before any test is collected: a developer's own settings decide nothing here or in a child.

    Settings are read whatever their case.
    """
    for name in [name for name in os.environ if name.upper().startswith("ADAPTRY_")]:
        del os.environ[name]


@pytest.fixture
def caplog(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """Also after a server ran in this process, which configures our loggers for itself."""
    ours = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] in OURS and isinstance(logger, logging.Logger)
    ]
    levels = [(logger, logger.level) for logger in (logging.root, *ours)]
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    logging.root.setLevel(logging.WARNING)
    for logger in ours:
        monkeypatch.setattr(logger, "propagate", True)
        monkeypatch.setattr(logger, "disabled", False)
        monkeypatch.setattr(logger, "filters", [])
        logger.setLevel(logging.NOTSET)  # which forgets what each logger has found enabled
    yield caplog
    for logger, level in levels:
        logger.setLevel(level)


@dataclass
class LiveServer:
    """The server under test, from outside (HTTP) and from inside (its own event loop)."""

    base_url: str
    state: Path
    server: Any
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # uvicorn closes a connection that was idle for 5 s: one that is about to be is not used
        limits = httpx.Limits(keepalive_expiry=2)
        self.client = httpx.Client(base_url=self.base_url, timeout=60, limits=limits)

    def run(self, work: Coroutine[Any, Any, Answer], seconds: float = 60) -> Answer:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels as written."""
        samples = {}
        for line in self.client.get("/metrics").text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def register(self, name: str, source: Path) -> dict[str, Any]:
        response = self.client.post(
            f"/api/v1/adapters/{name}/versions", json={"source": str(source)}
        )
        assert response.status_code in (200, 201), response.text
        version: dict[str, Any] = response.json()
        return version

    def complete(self, model: str, prompt: str, **options: Any) -> httpx.Response:
        body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 32, **options}
        return self.client.post("/v1/completions", json=body)

    def evict_all(self) -> None:
        """Both tiers empty, nothing pinned: where a counted sequence can begin.

        Waits for requests of the test before that go on.
        """
        cache = self.client.get("/api/v1/cache").json()
        for resident in cache["host"]:
            if resident["pinned"]:
                self.client.delete(f"/api/v1/cache/pins/{resident['reference']}")
            body = {"reference": resident["reference"], "wait": True}
            response = self.client.post("/api/v1/cache/evict", json=body)
            assert response.status_code == 200, response.text


def _serve(state: Path, listening: socket.socket, ready: Future[LiveServer]) -> None:
    """The server's thread."""
    try:
        asyncio.run(_serve_on_loop(state, listening, ready))
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _serve_on_loop(state: Path, listening: socket.socket, ready: Future[LiveServer]) -> None:
    from adaptry.serve.arguments import parse
    from engine.app import run_server
    from engine.settings import EngineSettings
    from engine.vllm.arguments import parse_engine_arguments, prefer_one_worker_process
    from registry.settings import RegistrySettings

    base = str(ROOT / "demo" / "base")
    asked = parse([base, "--profile", "demo", "--dtype", "float32", "--block-size", "32"])
    arguments = parse_engine_arguments(asked.model, asked.vllm)
    prefer_one_worker_process(arguments)
    # by recency alone: the default policy also remembers what earlier tests asked for
    settings = EngineSettings(**{**asked.settings, "eviction_policy": "lru"})
    registry_settings = RegistrySettings(
        database_url=f"sqlite+aiosqlite:///{state}/registry.db",
        store=state / "store",
        source_roots=(ROOT / "demo", state),
    )
    async with run_server(arguments, settings, registry_settings) as server:
        http = uvicorn.Server(uvicorn.Config(server.app, http=server.http, log_level="warning"))
        server.app.state.server = http  # as vLLM's own way to serve does
        serving = asyncio.create_task(http.serve(sockets=[listening]))
        port = listening.getsockname()[1]
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        live = LiveServer(f"http://127.0.0.1:{port}", state, server, loop, stopping)
        while not http.started:
            await asyncio.sleep(0.05)
        ready.set_result(live)
        await stopping.wait()
        http.should_exit = True
        await serving


@contextmanager
def running_live_server(state: Path) -> Iterator[LiveServer]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    ready: Future[LiveServer] = Future()
    thread = threading.Thread(target=_serve, args=(state, listening, ready), daemon=True)
    thread.start()
    live = ready.result(START_SECONDS)
    for folder in sorted((ROOT / "demo" / "adapters").iterdir()):
        live.register(folder.name, folder)
    yield live
    live.client.close()
    live.loop.call_soon_threadsafe(live.stopping.set)
    thread.join(30)


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory, group_end: ExitStack) -> LiveServer:
    """Starts the engine once; everything that needs it shares it."""
    return group_end.enter_context(running_live_server(tmp_path_factory.mktemp("server")))


@pytest.fixture
def server(live_server: LiveServer) -> LiveServer:
    """The shared server with empty tiers."""
    live_server.evict_all()
    return live_server
