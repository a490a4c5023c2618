"""Uploads benchmark: how long many small adapters take from the first upload to the last version.

.venv/bin/python -m benchmarks.ingest.uploads --count 5000
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common.tables import machine, print_table
from benchmarks.ingest.server import database_url
from benchmarks.ingest.small_adapters import WIDTH, small_adapter, until_registered
from registry.database.migrate import upgrade

PARTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure many small uploads.")
    parser.add_argument("--count", type=int, default=1000, help="adapters to upload")
    parser.add_argument("--clients", type=int, default=8, help="uploads at a time")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        rows = measure(folder, arguments.count, arguments.clients)
    finally:
        shutil.rmtree(folder)
    print(machine())
    print_table(rows)


def measure(folder: Path, count: int, clients: int) -> list[dict[str, object]]:
    upgrade(database_url(folder))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest.server", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = int(process.stdout.readline())
    began = cpu_seconds(process.pid)
    try:
        url = f"http://127.0.0.1:{port}/api/v1"
        rows = asyncio.run(upload_all(url, count, clients))
        used = cpu_seconds(process.pid) - began
    finally:
        process.communicate()
    print(f"{1000 * used / count:.1f} ms of the server's CPU time for each")
    return rows


def cpu_seconds(pid: int) -> float:
    """CPU time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def upload_all(url: str, count: int, clients: int) -> list[dict[str, object]]:
    """Rows: the uploads, and each part of the registrations in the order of their ends."""
    async with httpx.AsyncClient(base_url=url, timeout=None) as http:
        began = time.time()
        numbers = iter(range(count))
        await asyncio.gather(*(upload_some(http, numbers) for _ in range(clients)))
        uploaded = time.time() - began
        await until_registered(http)
        ends = sorted(await ends_of_jobs(http))
    if len(ends) != count:
        sys.exit(f"{len(ends)} of {count} were registered")
    rows: list[dict[str, object]] = [row("uploads answered", count, uploaded)]
    last = began
    for part in np.array_split(np.array(ends), PARTS):
        rows.append(row("registered, a part", len(part), part[-1] - last))
        last = float(part[-1])
    rows.append(row("registered, all", count, last - began))
    return rows


def row(what: str, count: int, seconds: float) -> dict[str, object]:
    rate = f"{count / seconds:.1f}"
    return {"what": what, "count": count, "seconds": f"{seconds:.1f}", "each second": rate}


async def upload_some(http: httpx.AsyncClient, numbers: Iterator[int]) -> None:
    for number in numbers:
        files = small_adapter(number, WIDTH).items()
        parts = [("files", (name, content)) for name, content in files]
        path = f"/adapters/small-{number}/versions"
        while True:
            response = await http.post(path, files=parts)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))
        if response.is_error:
            sys.exit(json.dumps(response.json()))


async def ends_of_jobs(http: httpx.AsyncClient) -> list[float]:
    """Times at which jobs succeeded."""
    ends: list[float] = []
    query: dict[str, Any] = {"state": "succeeded", "limit": 100}
    while True:
        page = (await http.get("/jobs", params=query)).json()
        ends += [datetime.fromisoformat(job["finished_at"]).timestamp() for job in page["items"]]
        if page["next_page_token"] is None:
            return ends
        query["page_token"] = page["next_page_token"]


if __name__ == "__main__":
    main()
