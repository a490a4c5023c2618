"""Cluster of one machine: a fleet on Ray Serve, deployed and scaled as `serve deploy` does.

Its registry is on a private PostgreSQL. Ray runs beside the caller, in processes of its own.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch

from benchmarks.common.servers import Limits, free_port
from benchmarks.scale.routers import SWITCH_VARIABLE
from fleet.ray.launch import prepare_environment
from tests.support.databases.postgres import PostgresServer, binaries

REPLICA, INGRESS = "replica", "entrance"
_APPLICATION = "adaptry"
_PROXY = "ray::ProxyActor"
_LOCAL = "127.0.0.1"
_OBJECT_BYTES = 2**30  # of Ray's store, through which nothing large goes


@dataclass(frozen=True)
class Cluster:
    """A running one. `switch`: the file that makes its routing random."""

    base_url: str
    application: Mapping[str, Any]
    switch: Path

    def deploy(self, replicas: int) -> None:
        """As `serve deploy` with this `num_replicas`; returns before they are up."""
        from ray.serve.schema import ServeDeploySchema

        router = {
            "request_router_class": "benchmarks.scale.switched_router.SwitchedRouter",
            "request_routing_stats_period_s": 1.0,
        }
        deployments = [{"name": REPLICA, "num_replicas": replicas, "request_router_config": router}]
        config = {"applications": [{**self.application, "deployments": deployments}]}
        _controller().deploy_apps(ServeDeploySchema.model_validate(config))

    def pids(self, deployment: str) -> dict[str, int]:
        """The processes of a deployment's running replicas, by replica."""
        details = _controller().get_serve_details()["applications"][_APPLICATION]
        running = details["deployments"][deployment]["replicas"]
        return {each["replica_id"]: each["pid"] for each in running if each.get("pid")}

    def why_not_running(self) -> str:
        """What Ray Serve says of the application and of its deployments."""
        details = _controller().get_serve_details()["applications"].get(_APPLICATION, {})
        found = [str(each.get("message", "")) for each in details.get("deployments", {}).values()]
        return "\n".join([str(details.get("status", "")), str(details.get("message", "")), *found])

    def cpu_seconds(self) -> dict[tuple[str, int], float]:
        """Of the Python processes that a request passes, so far: by their kind and number."""
        pids = [(kind, pid) for kind in (INGRESS, REPLICA) for pid in self.pids(kind).values()]
        family = psutil.Process().children(recursive=True)
        pids += [("proxy", each.pid) for each in family if _title(each).startswith(_PROXY)]
        return {(kind, pid): _cpu_seconds(pid) for kind, pid in pids}


def _end(number: int, frame: FrameType | None) -> None:
    """Without a handler PostgreSQL would be left running, and with Ray's own one too."""
    raise SystemExit(128 + number)


def _controller() -> Any:
    """Ray Serve's client, with which its own routes for `serve deploy` work (2.60)."""
    from ray.serve.context import _get_global_client

    return _get_global_client()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:  # one that is just being removed
        return 0.0
    return float(times.user + times.system)


def application(
    base: Path, sources: Sequence[Path], store: Path, limits: Limits, gpus: float
) -> dict[str, Any]:
    """As configs/ray-serve.yaml has it, without its deployments."""
    return {
        "name": _APPLICATION,
        "route_prefix": "/",
        "import_path": "fleet.ray.application:build",
        "args": {
            "model": str(base),
            "replicas": 2,
            "vllm": [f"--served-model-name={base.name}", *limits.as_arguments()],
            "gpus_per_replica": gpus,
            "registry": {"store": str(store), "source_roots": list(map(str, sources))},
        },
    }


@contextmanager
def running_cluster(fleet: Mapping[str, Any], folder: Path) -> Iterator[Cluster]:
    """A cluster with nothing deployed. Raises SystemExit without PostgreSQL."""
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    signal.signal(signal.SIGTERM, _end)
    postgres = PostgresServer(programs)
    try:
        postgres.start()
        postgres.sql("CREATE DATABASE fleet")
        switch = folder / "random-routing"
        os.environ[SWITCH_VARIABLE] = str(switch)
        prepare_environment(postgres.url("fleet"))
        with _session(folder) as session, _ray(session) as port:
            yield Cluster(f"http://{_LOCAL}:{port}", fleet, switch)
    finally:
        postgres.remove()


@contextmanager
def _session(logs: Path) -> Iterator[Path]:
    """A folder for Ray, whose logs are kept in another one."""
    with tempfile.TemporaryDirectory(
        prefix="ray-",
        dir="/tmp",  # paths of its sockets have to be short
        ignore_cleanup_errors=True,
    ) as name:
        try:
            yield Path(name)
        finally:
            written = Path(name) / "session_latest" / "logs"
            if written.is_dir():  # there is none of a Ray that did not start
                shutil.copytree(written, logs / "ray-logs", dirs_exist_ok=True)


@contextmanager
def _ray(session: Path) -> Iterator[int]:
    """Ray and Ray Serve. Yields the port of the fleet."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation
    from ray.serve.schema import LoggingConfig

    port = free_port()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            num_gpus=torch.cuda.device_count(),
            object_store_memory=_OBJECT_BYTES,
            _node_ip_address=_LOCAL,
            _temp_dir=str(session),
        )
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=_LOCAL, port=port),
            logging_config=LoggingConfig(enable_access_log=False),
        )
        signal.signal(signal.SIGTERM, _end)  # Ray has set its own
        yield port
        serve.shutdown()  # type: ignore[no-untyped-call]  # theirs
    finally:
        ray.shutdown()
