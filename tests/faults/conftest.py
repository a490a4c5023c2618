"""One real server that the tests here hurt one after the other; each leaves it serving."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.faults.inject import Harm
from tests.support.servers.adaptry_serve import ROOT, ServedDemo
from tests.support.traffic.fault_trial import Kept

DISK_MIB = 48
DRAIN_SECONDS = 600  # longer than any test: a process that ends did not just run out of it


class Victim(ServedDemo):
    """Its state is on a small disk of its own; `kept` is what it was told."""

    def __init__(self, folder: Path, harm: Harm, kept: Kept) -> None:
        super().__init__(
            folder,
            engine_hang_seconds="60",
            reconcile_seconds="0.5",
            save_residents_seconds="0.2",
        )
        self.own_sources = folder.with_name("sources")
        self.own_sources.mkdir()
        self.drain_seconds = DRAIN_SECONDS
        self.harm = harm
        self.variables = harm.environment
        self.log = folder.with_name("server.log")
        self.more: tuple[str, ...] = ()  # arguments of the next start
        self.kept = kept

    def launch(self) -> None:
        self.arguments = (
            *("--source-root", str(self.own_sources)),
            *("--shutdown-timeout", str(self.drain_seconds)),
            *self.more,
        )
        super().launch()

    def new_adapter(self, name: str, does: str) -> None:
        """Registered from files that no other adapter shares."""
        source = self.own_sources / name
        source.mkdir()
        for file in (ROOT / "demo" / "adapters" / does).iterdir():
            content = file.read_bytes()
            if file.suffix == ".json":
                content += b" " * (1 + len(list(self.own_sources.iterdir())))
            (source / file.name).write_bytes(content)
        path = f"/api/v1/adapters/{name}/versions"
        response = self.client.post(path, json={"source": str(source)})
        assert response.status_code == 201, response.text

    def weights_of(self, name: str) -> Path:
        """In the store."""
        version = self.client.get(f"/api/v1/adapters/{name}/versions/1").json()
        digest: str = version["digest"]
        folder = self.folder / "store" / "adapters" / digest[:2] / digest
        return folder / "adapter_model.safetensors"

    def ask(self, model: str, *, timeout: float = 60) -> tuple[int, str]:
        """Status, and what was said or the code. Raises httpx.ReadTimeout after so many seconds."""
        response = self.complete(model, timeout=timeout)
        body = response.json()
        if response.status_code == 200:
            return 200, body["choices"][0]["text"]
        return response.status_code, body["error"]["code"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    size = f"size={DISK_MIB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory, group_end: ExitStack, is_long: bool) -> Victim:
    if os.geteuid() != 0:
        pytest.skip("root is needed to mount a small disk")
    disk = group_end.enter_context(small_disk(tmp_path_factory.mktemp("faults") / "disk"))
    demo = Victim(disk, Harm(disk.parent), Kept.nothing(is_long))
    group_end.callback(demo.client.close)
    group_end.callback(demo.stop)
    return demo


@pytest.fixture
async def served(victim: Victim) -> Victim:
    """Whole and ready, whatever the test before did to it."""
    victim.harm.end()
    victim.drain_seconds = DRAIN_SECONDS
    if not victim.runs:
        await asyncio.to_thread(victim.start)
    await asyncio.to_thread(victim.wait_until, victim.is_ready)
    return victim
