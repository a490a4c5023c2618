"""Bad neighbour: each attack of one caller beside the stream of another, on the real engine.

    python -m benchmarks.neighbour [--seconds 5] [--attack NAME]

Starts a server with the demo model, prints a table for docs/reliability.md, and ends with 1 if a
ratio to the idle server is over the goal, or if the server's log has a prompt.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from benchmarks.neighbour.attacks import MARKER, Attack, attacks
from benchmarks.neighbour.bystander import Times, measure_idle, stream_while
from benchmarks.neighbour.server import ROOT, register, running_server

GOAL = 2.0
COLUMNS = ("attack", "first token, ms", "× idle", "gap, ms", "× idle", "longest", "attacker got")
WARM_UP_SECONDS = 3.0


def _measure_beside(url: str, attack: Attack, seconds: float) -> tuple[Times, str]:
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
        times = stream_while(url, lambda: attacker.poll() is None)
        answers = json.loads(attacker.stdout.read())
    return times, ", ".join(f"{count} × {answer}" for answer, count in answers.items())


def _describe_machine() -> str:
    cores = len(os.sched_getaffinity(0))
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today} ({platform.machine()}, {cores} cores, attacker and bystander on them too)"


def run(seconds: float, only: str | None) -> int:
    over: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), "--log-error-stack") as (url, log),
    ):
        with httpx.Client(base_url=url, timeout=300) as client:
            register(client)
        measure_idle(url, WARM_UP_SECONDS)
        idle = measure_idle(url, seconds)
        print(f"{_describe_machine()}; goal: {GOAL:g} × idle\n")
        print(
            "| attack | first token, ms | × idle | gap, ms | × idle | longest gap | attacker got |"
        )
        print("|---|---|---|---|---|---|---|")
        print(f"| none | {idle.first_token:.1f} | | {idle.gap:.1f} | | {idle.longest_gap:.0f} | |")
        for attack in attacks():
            if only not in (None, attack.name):
                continue
            times, answers = _measure_beside(url, attack, seconds)
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
