"""A fleet deployed to a Ray cluster with `configs/ray-serve.yaml`, and scaled under traffic."""

import asyncio
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from demo.tasks import TASKS
from tests.support.adapters.padded import save_padded
from tests.support.databases.postgres import PostgresServer, binaries
from tests.support.servers.adaptry_serve import ROOT, START_SECONDS, ServedDemo, inherited
from tests.support.traffic.fault_trial import CHANGES, Kept, trial
from tests.support.workers.ray_workers import RayWorkers, parent_of_zygotes

pytestmark = [pytest.mark.servers("fleet"), pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
HEAD_STARTS = 3
CONFIG = ROOT / "configs" / "ray-serve.yaml"
SMALL_RANK, LARGE_RANK = 16, 32  # of the first replica's slots, and of the others'; traffic has 16


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster(ServedDemo):
    """A head node, and what is deployed to it."""

    forks = False  # it is Ray's own command

    def __init__(self, folder: Path, database: str) -> None:
        super().__init__(folder)
        self._workers = RayWorkers(folder, parent_of_zygotes())
        self.dashboard = free_port()
        self.variables = {
            "ADAPTRY_DATABASE_URL": database,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    def command(self, port: int) -> list[str]:
        return self._workers.command(
            *("ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
            *(f"--port={free_port()}", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-port={self.dashboard}", f"--dashboard-agent-listen-port={free_port()}"),
            f"--ray-client-server-port={free_port()}",
        )

    def launch_head(self) -> None:
        """Ray gives its own processes 20 to 30 seconds, which they may miss on a busy machine."""
        for _ in range(HEAD_STARTS):
            self.launch()
            while self.runs and not self.is_head_up():
                time.sleep(0.5)
            if self.runs:
                return
        raise RuntimeError(self.last_words())

    def is_head_up(self) -> bool:
        """Ray says so last."""
        return "Ray runtime started" in self.log.read_text(errors="replace")

    def stop(self) -> None:
        """Immediately: `ray start` itself waits long for each of its own."""
        if self.runs:
            family = [self.process, *self.process.children(recursive=True)]
            family += self._workers.processes()
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(family, timeout=30)
            assert self._process is not None
            self._process.wait(10)

    def config(self, replicas: int) -> dict[str, Any]:
        """The repository's own, for the demo's model and this machine."""
        config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
        config["http_options"]["port"] = self.port
        (application,) = config["applications"]
        profile = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
        vllm = [f"--{name}={value}" for name, value in profile["vllm"].items() if value is not True]
        flags = [f"--{name}" for name, value in profile["vllm"].items() if value is True]
        application["args"] |= {
            "model": str(ROOT / "demo" / "base"),
            "vllm": [*vllm, *flags, "--dtype=float32", f"--max-lora-rank={LARGE_RANK}"],
            "classes": [{"replicas": 1, "vllm": [f"--max-lora-rank={SMALL_RANK}"]}],
            "engine": profile.get("adaptry", {}),
            "gpus_per_replica": 0,
        }
        (self.folder / "adapters").mkdir(exist_ok=True)
        application["args"]["registry"] |= {
            "store": str(self.folder / "store"),
            "source_roots": [str(ROOT / "demo"), str(self.folder / "adapters")],
        }
        (deployment,) = application["deployments"]
        deployment["num_replicas"] = replicas
        return config

    def deploy(self, replicas: int) -> None:
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config(replicas)))
        address = f"http://127.0.0.1:{self.dashboard}"
        done = subprocess.run(
            [str(BIN / "serve"), "deploy", str(path), "--address", address],
            env={**inherited(), **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def has(self, replicas: int) -> bool:
        return self.replicas_up() == replicas

    def replicas_up(self) -> int:
        response = self.client.get("/api/v1/cache")
        if response.status_code != 200:
            return 0
        return sum(each["engine_up"] for each in response.json()["replicas"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    postgres = PostgresServer(programs)
    try:
        postgres.start()
        url = postgres.new_database("cluster")
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), url)
        try:
            cluster.launch_head()
            cluster.deploy(1)
            cluster.wait_until(cluster.is_ready, START_SECONDS)
            yield cluster
        finally:
            cluster.stop()
            cluster.client.close()
    finally:
        postgres.remove()


async def test_scaling_up_and_down_loses_nothing(cluster: Cluster, is_long: bool) -> None:
    """The first replica's slots are smaller than those of the next one."""
    kept = Kept.nothing(is_long)
    (small,) = (each["name"] for each in cluster.cache()["replicas"])
    upper, wide = ROOT / "demo" / "adapters" / "upper", cluster.folder / "adapters" / "wide"
    source = save_padded(upper, wide, LARGE_RANK)
    body = {"source": str(source)}
    registered = cluster.client.post("/api/v1/adapters/wide/versions", json=body)
    assert registered.status_code in (200, 201), registered.text
    refused = cluster.complete("wide")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "rank_too_large")
    async with trial(cluster, kept, operators=CHANGES) as running:
        assert await asyncio.to_thread(cluster.replicas_up) == 1
        for replicas in (2, 1):
            await asyncio.to_thread(cluster.deploy, replicas)
            await running.until(partial(cluster.has, replicas), START_SECONDS)
            await running.goes_on()
            if replicas == 2:
                found = [await asyncio.to_thread(cluster.complete, "wide") for _ in range(8)]
                assert {answer.status_code for answer in found} == {200}
                assert found[0].json()["choices"][0]["text"] == TASKS["upper"].answer("hello")
                assert small not in {answer.headers["x-adaptry-replica"] for answer in found}
        assert running.count("refused") == 0
        assert running.count("connection lost") == 0
        assert running.count("cut off") == 0
