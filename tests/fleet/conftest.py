"""A fleet of two real engines on its own PostgreSQL, shared by all tests here."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.databases.postgres import PostgresServer, binaries
from tests.support.servers.adaptry_serve import START_SECONDS, ServedDemo
from tests.support.traffic.fault_trial import Kept
from tests.support.workers.ray_workers import RayWorkers, parent_of_zygotes

REPLICAS = 2
REPLICA = "ray::ServeReplica:adaptry:replica"
PROXY = "ray::ProxyActor"


class ServedFleet(ServedDemo):
    """Two replicas of the demo's model. `kept`: the state that the traffic has left so far."""

    postgres: PostgresServer
    kept: Kept

    def __init__(self, folder: Path, *, database: str, **settings: str) -> None:
        super().__init__(folder, database=database, **settings)
        self.arguments = ("--replicas", str(REPLICAS))
        self._workers = RayWorkers(folder, parent_of_zygotes())

    def command(self, port: int) -> list[str]:
        _, _, module, *arguments = super().command(port)
        return self._workers.command(module, *arguments)

    def family(self) -> list[psutil.Process]:
        """All processes of this fleet."""
        of_ray = self.process.children(recursive=True)
        return [self.process, *of_ray, *self._workers.processes()]

    def processes(self, title: str) -> list[psutil.Process]:
        """Those whose title begins so."""
        found = []
        for child in self.family():
            try:
                if " ".join(child.cmdline()).startswith(title):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def replicas(self) -> list[str]:
        """The names of replicas whose engine is up."""
        return [each["name"] for each in self.cache()["replicas"] if each["engine_up"]]

    def is_whole(self) -> bool:
        response = self.client.get("/api/v1/cache")
        if response.status_code != 200:
            return False
        up = [each for each in response.json()["replicas"] if each["engine_up"]]
        return len(up) == REPLICAS

    def holders(self, reference: str, tier: str = "host") -> set[str]:
        """The replicas that hold it in this tier."""
        there = self.cache()[tier]
        return {each["replica"] for each in there if each["reference"] == reference}

    def pinned_on(self, reference: str) -> set[str]:
        there = self.cache()["host"]
        return {
            each["replica"] for each in there if each["reference"] == reference and each["pinned"]
        }


@contextmanager
def running_fleet(programs: Path, folder: Path, kept: Kept) -> Iterator[ServedFleet]:
    postgres = PostgresServer(programs)
    try:
        postgres.start()
        served = ServedFleet(
            folder,
            database=postgres.new_database("fleet"),
            reconcile_seconds="0.5",
            local_copies=str(folder / "copies"),
        )
        served.variables = {"VLLM_ENABLE_RESPONSES_API_STORE": "1"}
        served.postgres, served.kept = postgres, kept
        try:
            served.start()
            served.wait_until(served.is_whole, START_SECONDS)
            yield served
        finally:
            served.stop()
            served.client.close()
    finally:
        postgres.remove()


@pytest.fixture(scope="session")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, group_end: ExitStack, is_long: bool
) -> ServedFleet:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("fleet")
    return group_end.enter_context(running_fleet(programs, folder, Kept.nothing(is_long)))
