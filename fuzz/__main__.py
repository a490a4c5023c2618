"""Fuzzing runs of `make fuzz`, with chosen counts, durations and seeds.

make fuzz ARGS="--adapters 100000 --minutes 30 --seed 7"
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fuzz.http_api import fuzz, registry_server
from fuzz.runs import adapters, guided

GUIDED = ("header", "reference", "depth")


def _api(examples: int, seed: int, folder: Path) -> subprocess.CompletedProcess[str]:
    with registry_server(folder) as server:
        return fuzz(server.url, examples=examples, seed=seed)


def _report(what: str, done: subprocess.CompletedProcess[str]) -> bool:
    print(f"{'ok' if done.returncode == 0 else 'FOUND'}: {what}", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return done.returncode == 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--adapters", type=int, default=20_000, help="of each kind")
    parser.add_argument("--examples", type=int, default=100, help="requests for each operation")
    parser.add_argument("--minutes", type=float, default=5, help="for each guided target")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    limits = [f"-max_total_time={options.minutes * 60:.0f}", f"-seed={options.seed % 2**31}"]
    runs = {
        kind: partial(adapters, kind, count=options.adapters, seed=options.seed)
        for kind in ("inspection", "uploads")
    }
    runs |= {name: partial(guided, name, limits) for name in GUIDED}
    runs["HTTP API"] = partial(_api, options.examples, options.seed)
    well = True
    for what, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            well &= _report(what, run(folder=Path(folder)))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
