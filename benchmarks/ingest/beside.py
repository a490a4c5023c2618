"""Uploads beside a bystander: how fast they are registered, and what the stream of another notices.

    python -m benchmarks.ingest.beside [--count 5000] [--clients 8] [--seconds 10]

Starts a server with the demo model, and measures idle, one half of the uploads, the other half, and
idle again, so that what drifts on the machine counts on both sides. It ends with 1 if a goal is
missed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from benchmarks.common.tables import machine, print_table
from benchmarks.neighbour.bystander import Times, measure_idle, stream_while
from benchmarks.neighbour.server import ROOT, register, running_server

WIDTH = 128  # of the demo model
WARM_UP_SECONDS = 3.0
MOST_SECONDS_EACH = 120 / 5000
MOST_RATIO = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest.beside")
    parser.add_argument("--count", type=int, default=5000, help="adapters to upload")
    parser.add_argument("--clients", type=int, default=8, help="uploads at a time")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each idle measurement")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder)) as (url, _),
        httpx.Client(base_url=url, timeout=300) as client,
    ):
        register(client)
        measure_idle(url, WARM_UP_SECONDS)
        return measure(url, given.count, given.clients, given.seconds)


def measure(url: str, count: int, clients: int, seconds: float) -> int:
    """Prints the table. 1 if a goal is missed."""
    half = count // 2
    idle = [measure_idle(url, seconds)]
    beside, took = [], 0.0
    for first, many in ((0, half), (half, count - half)):
        times, more = stream_beside_uploads(url, first, many, clients)
        beside.append(times)
        took += more
    idle.append(measure_idle(url, seconds))
    first_token = ratio(*([each.first_token for each in some] for some in (beside, idle)))
    gap = ratio(*([each.gap for each in some] for some in (beside, idle)))
    print(machine())
    named = zip(("idle", "uploads", "uploads", "idle"), (idle[0], *beside, idle[1]), strict=True)
    print_table([row(what, times) for what, times in named])
    print(f"\n{count} registered in {took:.1f} s, {count / took:.1f} each second")
    print(f"bystander: first token {first_token:.2f} × idle, gap {gap:.2f} × idle")
    return int(took / count > MOST_SECONDS_EACH or first_token > MOST_RATIO)


def stream_beside_uploads(url: str, first: int, count: int, clients: int) -> tuple[Times, float]:
    """The bystander's times, and how long the uploads took until they were registered."""
    numbers = map(str, (first, count, clients, WIDTH))
    command = [sys.executable, "-m", "benchmarks.ingest.uploader", url, *numbers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as uploader:
        assert uploader.stdout is not None
        times = stream_while(url, lambda: uploader.poll() is None)
        printed = uploader.stdout.read()
    if uploader.returncode:
        raise SystemExit("the uploads failed")
    return times, float(printed)


def ratio(beside: list[float], idle: list[float]) -> float:
    return statistics.fmean(beside) / statistics.fmean(idle)


def row(what: str, times: Times) -> dict[str, object]:
    return {
        "beside": what,
        "first token, ms": f"{times.first_token:.1f}",
        "gap, ms": f"{times.gap:.1f}",
        "longest gap": f"{times.longest_gap:.0f}",
        "streams": len(times.first_tokens),
    }


if __name__ == "__main__":
    sys.exit(main())
