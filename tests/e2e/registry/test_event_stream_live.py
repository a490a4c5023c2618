"""The stream of events through vLLM's application, and at the end of a real server process."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.support.servers.forked_server import ForkedServer, fork_server

pytestmark = [pytest.mark.engine]

STREAM = "/api/v1/events/stream"


def next_event(lines: Iterator[str]) -> dict[str, Any]:
    data = next(line for line in lines if line.startswith("data: "))
    event: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return event


def test_events_pass_every_middleware_as_they_happen(server: Any) -> None:
    with server.client.stream("GET", STREAM) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert next(lines) == "retry: 2000"
        server.register("streamed", ROOT / "demo" / "adapters" / "upper")
        registered, moved = next_event(lines), next_event(lines)
    assert (registered["kind"], registered["adapter"]) == ("version.registered", "streamed")
    assert (moved["kind"], moved["alias"]) == ("alias.moved", "default")


def test_a_server_that_is_stopped_ends_its_streams_and_then_itself(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    command = [sys.executable, "-m", "adaptry", "serve", str(ROOT / "demo" / "base")]
    command += ["--profile", "demo", "--dtype", "float32", "--block-size", "32"]
    command += ["--database", f"sqlite:///{tmp_path}/registry.db", "--store", f"{tmp_path}/store"]
    command += ["--port", str(unused_tcp_port)]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    process = fork_server(command, environment, tmp_path / "log")
    try:
        _wait_until_ready(url, process)
        with httpx.stream("GET", f"{url}{STREAM}", timeout=60) as response:
            threading.Timer(0.5, process.send_signal, [signal.SIGTERM]).start()
            lines = list(response.iter_lines())  # raises if the stream is cut off
        assert lines[0] == "retry: 2000"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()


def _wait_until_ready(url: str, process: ForkedServer) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            threading.Event().wait(0.2)
    pytest.fail("the server ended before it was ready")
