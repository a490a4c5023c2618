"""A real Prometheus beside a test, and its promtool."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

START_SECONDS = 30.0


def program(name: str) -> str:
    """Where it is. Skips the test if it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian, Ubuntu: apt-get install prometheus)")
    return found


def promtool() -> str:
    return program("promtool")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    base_url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The answer's data. Fails the test where there is an error, such as a wrong query."""
        address = f"{self.base_url}/api/v1/{path}"
        response = httpx.get(address, params=parameters, trust_env=False, timeout=60)
        content = response.json()
        assert content["status"] == "success", content.get("error")
        return content["data"]

    def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of the answer."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def ask(self, expression: str) -> list[float]:
        """The values of the answer, one for each series."""
        return [value for _, value in self.series(expression)]


@contextmanager
def running_prometheus(folder: Path, config: str, *options: str) -> Iterator[Prometheus]:
    """On a free port of 127.0.0.1, with its data in `folder`."""
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        *options,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        started = Prometheus(f"http://{address}")
        _wait_until_ready(started, process, folder / "log")
        yield started
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{prometheus.base_url}/-/ready", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"prometheus did not start: {log.read_text()[-2000:]}")
