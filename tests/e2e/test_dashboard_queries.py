"""Every query of the dashboard, asked of a real Prometheus that scrapes the real server."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from grafana import cache

pytestmark = pytest.mark.engine

CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: adaptry
    static_configs: [{{targets: ["{target}"]}}]
"""
START_SECONDS = 30.0
ANSWER_SECONDS = 45.0
QUERIES = [
    pytest.param(query.expression, id=f"{panel.title}-{n}")
    for row in cache.ROWS
    for panel in row.panels
    for n, query in enumerate(panel.queries)
]


class Server(Protocol):
    """What the session's server fixture gives."""

    @property
    def base_url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    base_url: str

    def ask(self, expression: str) -> list[float]:
        """The values of the answer, one for each series. Raises for a query that is no PromQL."""
        asked = expression.replace("$__rate_interval", "15s").replace("$instance", ".*")
        query = {"query": asked}
        response = httpx.get(f"{self.base_url}/api/v1/query", params=query, trust_env=False)
        content = response.json()
        assert content["status"] == "success", content.get("error")
        return [float(series["value"][1]) for series in content["data"]["result"]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def traffic(live_server: Server) -> Iterator[None]:
    """One short request for an adapter after the other, so that rates are above 0."""
    models = httpx.get(f"{live_server.base_url}/v1/models", trust_env=False).json()["data"]
    adapters = [model["id"] for model in models if model.get("parent")]
    assert adapters, models
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=live_server.base_url, trust_env=False, timeout=60) as client:
            turn = 0
            while not over.wait(0.2):
                body = {"model": adapters[turn % len(adapters)], "prompt": "a=", "max_tokens": 1}
                client.post("/v1/completions", json=body)
                turn += 1

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    over.set()
    asking.join()


@pytest.fixture(scope="module")
def prometheus(
    live_server: Server, traffic: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian, Ubuntu: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(
        CONFIG.format(target=live_server.base_url.removeprefix("http://"))
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        started = Prometheus(f"http://{address}")
        wait_until_ready(started, process, folder / "log")
        yield started
    finally:
        process.terminate()
        process.wait(10)


def wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{prometheus.base_url}/-/ready", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"prometheus did not start: {log.read_text()[-2000:]}")


def answer_of(prometheus: Prometheus, expression: str) -> list[float]:
    """Waits until two scrapes lie within the interval that rates look at."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not (values := prometheus.ask(expression)):
        assert time.monotonic() < deadline, f"no data for {expression}"
        time.sleep(0.5)
    return values


@pytest.mark.parametrize("expression", QUERIES)
def test_a_panel_has_data(prometheus: Prometheus, expression: str) -> None:
    assert answer_of(prometheus, expression)


def test_the_numbers_agree_with_each_other(prometheus: Prometheus) -> None:
    (requests,) = answer_of(prometheus, cache.rate(cache.REQUESTS))
    (lookups,) = answer_of(prometheus, cache.rate(cache.LOOKUPS, 'tier="gpu"'))
    (hits,) = answer_of(prometheus, cache.hit_ratio('tier="gpu"'))
    (slots,) = answer_of(prometheus, cache.total("adaptry_slots"))
    resident = answer_of(prometheus, 'adaptry_resident{tier="gpu"}')
    assert requests > 0
    assert lookups > 0
    assert 0 <= hits <= 1
    assert max(resident) <= slots


def test_the_alerts_are_valid_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian, Ubuntu: apt-get install prometheus)")
    root = Path(__file__).parents[2]
    checked = subprocess.run(
        [promtool, "check", "config", root / "configs" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
