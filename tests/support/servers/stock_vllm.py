"""A stock `vllm serve` over the demo model, without anything of ours in it."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.support.servers.adaptry_serve import ROOT, START_SECONDS
from tests.support.servers.forked_server import ForkedServer, fork_server
from tests.support.servers.zygote import EAGER

SLOTS, PLACES = 2, 4


class StockServer:
    """It may be started again at the same port."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: ForkedServer | None = None

    def launch(self) -> None:
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(ROOT / "demo" / "base"), "--served-model-name", "base"),
            *("--dtype", "float32", "--block-size", "32", "--max-model-len", "256"),
            *("--enable-lora", "--max-loras", str(SLOTS), "--max-cpu-loras", str(PLACES)),
            *("--max-lora-rank", "16", "--enforce-eager", "--kv-cache-memory-bytes", "67108864"),
            # a worker's process of its own, and the engine that waits for it, spin for a second
            # after each step; nothing of ours is in either
            *("--distributed-executor-backend", "uni"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_PLUGINS": "",
            "OMP_NUM_THREADS": "1",
            EAGER: "1",  # it compiles what ranks tokens, eager or not: eight seconds of CPU
        }
        self._process = fork_server(command, environment, self.log, stock=True)

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text()[-3000:])

    def models(self) -> list[str]:
        answer = httpx.get(f"{self.url}/v1/models", timeout=20, trust_env=False).json()
        return [str(model["id"]) for model in answer["data"]]

    def kill(self) -> None:
        if self._process is None:
            return
        process = psutil.Process(self._process.pid)
        family = [process, *process.children(recursive=True)]
        for each in family:
            each.kill()
        self._process.wait(10)
        psutil.wait_procs(family, 10)


@contextmanager
def stock_vllm(folder: Path) -> Iterator[StockServer]:
    """Launched; the test that needs it waits for it."""
    server = StockServer(folder / "stock.log")
    server.launch()
    try:
        yield server
    finally:
        server.kill()
