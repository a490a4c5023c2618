"""What is ingested does not pass through memory, whichever way it comes."""

import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks.ingest.large_adapter import make_large_adapter
from registry.database.migrate import upgrade
from tests.support.servers.registry_in_loop import UNFINISHED, Json
from tests.support.servers.web import Handler, web_server

ROOT = Path(__file__).resolve().parents[3]
MIB = 2**20
SIZE_BYTES = 400 * MIB
DATA_LIMIT_BYTES = 320 * MIB  # addresses, of which a process with threads uses a part only
MEMORY_BYTES = 200 * MIB


class LimitedServer:
    """In a process that can't hold the adapter, were it to try."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite+aiosqlite:///{folder}/registry.db"
        upgrade(url)
        command = [
            sys.executable,
            "-m",
            "tests.support.servers.low_memory_registry",
            url,
            str(folder),
        ]
        self.process = subprocess.Popen(
            [*command, str(DATA_LIMIT_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout
        port = int(self.process.stdout.readline())
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=120)

    def end_of(self, response: httpx.Response) -> Json:
        assert response.status_code == 202, response.text
        while True:
            job: Json = self.http.get(f"/jobs/{response.json()['id']}").json()
            if job["state"] not in UNFINISHED:
                return job
            time.sleep(0.05)

    def peak_bytes(self) -> int:
        """Of resident memory since the process began."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def stop(self) -> None:
        self.http.close()
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("memory")
    yield folder
    shutil.rmtree(folder)  # pytest would keep gigabytes of earlier runs


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    return make_large_adapter(folder / "sources" / "large", SIZE_BYTES)


@pytest.fixture(scope="module")
def server(folder: Path, large: Path) -> Iterator[LimitedServer]:
    limited = LimitedServer(folder)
    yield limited
    limited.stop()


@pytest.fixture(scope="module")
def archive(folder: Path, large: Path) -> Path:
    with tarfile.open(folder / "large.tar", "w") as made:
        made.add(large, arcname="large")
    return folder / "large.tar"


def sends(path: Path, handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(path.stat().st_size))
    handler.end_headers()
    with path.open("rb") as file:
        shutil.copyfileobj(file, handler.wfile, MIB)


def from_folder(server: LimitedServer, large: Path, archive: Path) -> Json:
    body = {"source": str(large)}
    return server.end_of(server.http.post("/adapters/a/versions", json=body))


def from_files(server: LimitedServer, large: Path, archive: Path) -> Json:
    files = [("files", (file.name, file.open("rb"))) for file in sorted(large.iterdir())]
    job = server.end_of(server.http.post("/adapters/b/versions?wait=0", files=files))
    for _, (_, file) in files:
        file.close()
    return job


def from_archive(server: LimitedServer, large: Path, archive: Path) -> Json:
    with archive.open("rb") as file:
        files = [("files", (archive.name, file))]
        return server.end_of(server.http.post("/adapters/c/versions?wait=0", files=files))


def from_web(server: LimitedServer, large: Path, archive: Path) -> Json:
    with web_server() as web:
        for path in large.iterdir():
            web.answers[f"/large/{path.name}"] = partial(sends, path)
        body = {"source": f"{web.url}/large"}
        return server.end_of(server.http.post("/adapters/d/versions", json=body))


@pytest.mark.parametrize("bring", [from_folder, from_files, from_archive, from_web])
def test_memory_does_not_grow_with_the_adapter(
    server: LimitedServer, large: Path, archive: Path, bring: object
) -> None:
    assert callable(bring)
    job = bring(server, large, archive)
    assert job["state"] == "succeeded", job
    assert job["bytes_done"] >= SIZE_BYTES
    assert server.peak_bytes() < MEMORY_BYTES
