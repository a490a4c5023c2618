"""Bad neighbour: each attack of one caller beside the stream of another, on the real engine.

    python -m benchmarks.neighbour [--seconds 5] [--attack NAME]

Starts a server with the demo model, prints a table for docs/reliability.md, and ends with 1 if a
ratio to the idle server is over the goal, or if the server's log has a prompt.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.neighbour.attacks import MARKER, Attack, attacks
from benchmarks.neighbour.bystander import Times, stream_while

ROOT = Path(__file__).resolve().parents[2]
GOAL = 2.0
COLUMNS = ("attack", "first token, ms", "× idle", "gap, ms", "× idle", "longest", "attacker got")
START_SECONDS = 240.0
WARM_UP_SECONDS = 3.0


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Its address and its log. All of vLLM's stacks of errors are asked for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "adaptry", "serve", str(ROOT / "demo" / "base")),
        *("--profile", "demo", "--dtype", "float32", "--port", str(port)),
        *("--database", f"sqlite:///{folder}/registry.db", "--store", f"{folder}/store"),
        *("--source-root", str(ROOT / "demo"), "--log-error-stack"),
    ]
    log = folder / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield url, log
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _register(client: httpx.Client) -> None:
    source = {"source": str(ROOT / "demo" / "adapters" / "upper")}
    client.post("/api/v1/adapters/upper/versions", json=source).raise_for_status()


def _measure_idle(client: httpx.Client, seconds: float) -> Times:
    ends = time.monotonic() + seconds
    return stream_while(client, lambda: time.monotonic() < ends)


def _measure_beside(
    client: httpx.Client, url: str, attack: Attack, seconds: float
) -> tuple[Times, str]:
    """The bystander's times, and the answers that the attacker got."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.neighbour.attacker",
        url,
        attack.name,
        str(seconds),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as attacker:
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        attacker.stdout.readline()
        attacker.stdin.write("\n")
        attacker.stdin.flush()
        times = stream_while(client, lambda: attacker.poll() is None)
        answers = json.loads(attacker.stdout.read())
    return times, ", ".join(f"{count} × {answer}" for answer, count in answers.items())


def _describe_machine() -> str:
    cores = len(os.sched_getaffinity(0))
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today} ({platform.machine()}, {cores} cores, attacker and bystander on them too)"


def run(seconds: float, only: str | None) -> int:
    over: list[str] = []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as (url, log):
        client = httpx.Client(base_url=url, timeout=300)
        _register(client)
        _measure_idle(client, WARM_UP_SECONDS)
        idle = _measure_idle(client, seconds)
        print(f"{_describe_machine()}; goal: {GOAL:g} × idle\n")
        print(
            "| attack | first token, ms | × idle | gap, ms | × idle | longest gap | attacker got |"
        )
        print("|---|---|---|---|---|---|---|")
        print(f"| none | {idle.first_token:.1f} | | {idle.gap:.1f} | | {idle.longest_gap:.0f} | |")
        for attack in attacks():
            if only not in (None, attack.name):
                continue
            times, answers = _measure_beside(client, url, attack, seconds)
            ratios = times.first_token / idle.first_token, times.gap / idle.gap
            print(
                f"| {attack.name} | {times.first_token:.1f} | {ratios[0]:.1f} | {times.gap:.1f} | "
                f"{ratios[1]:.1f} | {times.longest_gap:.0f} | {answers} |",
                flush=True,
            )
            if max(ratios) > GOAL:
                over.append(attack.name)
        written = log.read_bytes()
    has_prompt = MARKER.encode() in written
    print(f"\nlog: {len(written):,} bytes, a prompt in it: {'yes' if has_prompt else 'no'}")
    if over:
        print(f"over the goal: {', '.join(over)}")
    return int(bool(over) or has_prompt)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbour")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each attack")
    parser.add_argument("--attack", help="only the one of this name")
    given = parser.parse_args()
    return run(given.seconds, given.attack)


if __name__ == "__main__":
    sys.exit(main())
