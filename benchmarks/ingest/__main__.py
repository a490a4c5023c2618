"""Ingest benchmark: memory and time of one large adapter, compared with the digest library's speed.

.venv/bin/python -m benchmarks.ingest --gib 4 --folder /var/tmp
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from blake3 import blake3

from benchmarks.common.tables import machine, print_table
from benchmarks.ingest.large_adapter import make_large_adapter
from benchmarks.ingest.server import database_url
from registry.database.migrate import upgrade

GIB = 2**30
MIB = 2**20
CHUNK_BYTES = 4 * MIB


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the ingest of one large adapter.")
    parser.add_argument("--gib", type=float, default=4.0, help="size of the adapter")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        measure(folder, int(arguments.gib * GIB))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, size_bytes: int) -> None:
    source = make_large_adapter(folder / "sources" / "large", size_bytes)
    upgrade(database_url(folder))
    rows: list[dict[str, object]] = [
        row("blake3 alone", size_bytes, *time_work(lambda: hash_alone(source))),
        row("copy alone", size_bytes, *time_work(lambda: copy_alone(source, folder))),
    ]
    for name, bring in (("ingest of a folder", from_folder), ("ingest of an upload", from_upload)):
        rows.append(row(name, size_bytes, *in_a_server(folder, source, bring)))
        shutil.rmtree(folder / "store")
    print(machine())
    print_table(rows)


def row(what: str, size_bytes: int, seconds: float, peak_bytes: int) -> dict[str, object]:
    return {
        "what": what,
        "GiB": f"{size_bytes / GIB:.1f}",
        "seconds": f"{seconds:.1f}",
        "MiB/s": f"{size_bytes / MIB / seconds:.0f}",
        "peak MiB of the process": f"{peak_bytes / MIB:.0f}" if peak_bytes else "-",
    }


def time_work(work: Callable[[], object]) -> tuple[float, int]:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began, 0


def hash_alone(source: Path) -> None:
    hasher = blake3()
    with (source / "adapter_model.safetensors").open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)


def copy_alone(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder / "copy")
    subprocess.run(["sync", str(folder / "copy" / "adapter_model.safetensors")], check=True)
    shutil.rmtree(folder / "copy")


# ---- the server, in a process of its own -------------------------------------------------


def in_a_server(
    folder: Path, source: Path, bring: Callable[[httpx.Client, Path], httpx.Response]
) -> tuple[float, int]:
    """Seconds until it is published, and the server's peak memory."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest.server", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = int(process.stdout.readline())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=None) as http:
        began = time.perf_counter()
        number = bring(http, source).raise_for_status().json()["id"]
        while (job := http.get(f"/jobs/{number}").json())["state"] != "succeeded":
            if job["state"] == "failed":
                sys.exit(json.dumps(job))
            time.sleep(0.05)
        seconds = time.perf_counter() - began
    answer, _ = process.communicate()
    return seconds, int(answer)


def from_folder(http: httpx.Client, source: Path) -> httpx.Response:
    return http.post("/adapters/folder/versions", json={"source": str(source)})


def from_upload(http: httpx.Client, source: Path) -> httpx.Response:
    files = [("files", (path.name, path.open("rb"))) for path in sorted(source.iterdir())]
    try:
        return http.post("/adapters/upload/versions?wait=0", files=files)
    finally:
        for _, (_, file) in files:
            file.close()


if __name__ == "__main__":
    main()
