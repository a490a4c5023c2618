"""Replicas on Ray Serve with one registry on PostgreSQL: what a second one brings, and faults.

    OMP_NUM_THREADS=1 python -m benchmarks.scale.replicas
    python -m benchmarks.scale.replicas --machine h200-x2 --json replicas.json

Two replicas are deployed together. Loads by our routing and at random from empty caches, each
beside its simulation; goodput of two, and of the one that is left after scaling down; a promotion,
scaling up, and a kill, all beside requests. Exits with 1 if a target is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from adaptry.client import Client as AdaptryClient
from benchmarks.common.client import client
from benchmarks.common.environment import stay_offline
from benchmarks.common.servers import Limits
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, name_of, write_adapters, write_base_model
from benchmarks.scale.cluster import Cluster, application, running_cluster
from benchmarks.scale.live import calibrate
from benchmarks.scale.phases import compare_routings, kill, promote, scale, sweep_rates
from benchmarks.scale.targets import judge
from benchmarks.scale.trial import Machine, Record, Trial
from benchmarks.serving.machines import MACHINES as SERVING
from engine.simulation.replica import Shape

PROMOTED = "promoted"
PHASES = ("loads", "goodput", "promotion", "scaling", "kill")
CALIBRATED = 40  # adapters, at most
REGISTERING = 8

MACHINES = {
    "cpu": Machine(
        shape="tiny",
        rank=8,
        cache=Shape(slots=4, host_capacity=8),
        adapters=24,
        mean_tokens=6,
        rates=(1.0, 2.0),
        rate_seconds=10.0,
        steady_rate=1.0,
        loads_seconds=30.0,
        fault_seconds=6.0,
        limit=None,
        together=(1, 2, 4),
        gpus=0,
        arguments=(
            "--enforce-eager",
            "--max-model-len=512",
            "--max-num-seqs=16",
            "--kv-cache-memory-bytes=67108864",
        ),
    ),
    "h200-x2": Machine(
        shape="llama-8b",
        rank=16,
        cache=Shape(slots=16, host_capacity=48),
        adapters=128,
        mean_tokens=64,
        rates=(12.0, 18.0, 24.0, 30.0),
        rate_seconds=8.0,
        steady_rate=12.0,
        loads_seconds=36.0,
        fault_seconds=8.0,
        limit=SERVING["h200"].zipf_limits[1],
        together=(1, 2, 4),
        gpus=1,
        arguments=SERVING["h200"].arguments,
    ),
}


def write_files(chosen: Machine, folder: Path) -> Path:
    """Adapters by number, and two versions of one more. Returns their folder."""
    adapters = folder / "adapters"
    names = [*map(name_of, range(1, chosen.adapters + 1)), PROMOTED, f"{PROMOTED}-next"]
    write_adapters(adapters, names, SHAPES[chosen.shape], rank=chosen.rank)
    return adapters


def register(base_url: str, adapters: Path, count: int) -> None:
    def register_one(name: str) -> None:
        with AdaptryClient(base_url) as asking:
            asking.versions.register(name, str(adapters / name))

    names = [*map(name_of, range(1, count + 1)), PROMOTED]
    with ThreadPoolExecutor(REGISTERING) as pool:
        list(pool.map(register_one, names))


async def run(
    chosen: Machine, cluster: Cluster, folder: Path, arguments: argparse.Namespace
) -> bool:
    record = Record(arguments.json)
    async with client(cluster.base_url) as server:
        trial = Trial(chosen, cluster, server, record)
        writing = asyncio.to_thread(write_files, chosen, folder)
        took, adapters = await asyncio.gather(trial.deploy(2), writing)
        print(f"{machine()}\n# two replicas after {took:.0f} s", flush=True)
        await asyncio.to_thread(register, cluster.base_url, adapters, chosen.adapters)
        calibrated = min(chosen.adapters, CALIBRATED)
        trial.costs = await calibrate(server, calibrated, chosen.together)
        print(f"# {trial.costs}, limit {trial.limit}", flush=True)
        failed = await _run_phases(trial, arguments.phases, adapters)
    record.print()
    rows = judge(record.rows)
    if rows:
        print()
        print_table(rows)
    return not failed and all(row["reached"] == "yes" for row in rows)


async def _run_phases(trial: Trial, phases: list[str], adapters: Path) -> bool:
    """Whether one failed, with a traceback: the others are run in any case."""
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("loads", lambda: compare_routings(trial)),
        ("goodput", lambda: sweep_rates(trial, 2)),
        ("promotion", lambda: promote(trial, PROMOTED, adapters / f"{PROMOTED}-next")),
        ("scaling goodput", lambda: scale(trial, 1)),
        ("goodput", lambda: sweep_rates(trial, 1)),
        ("scaling goodput", lambda: scale(trial, 2)),
        ("kill", lambda: kill(trial)),
        ("scaling", lambda: scale(trial, 1)),
    ]
    failed = False
    for needed_for, step in steps:
        if not set(needed_for.split()) & set(phases):
            continue
        try:
            await step()
        except Exception:
            traceback.print_exc()
            failed = True
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--rates", nargs="+", type=float, help="requests/s for each replica")
    parser.add_argument("--seconds", type=float, help="of each rate")
    parser.add_argument("--loads-seconds", type=float, help="of each routing")
    parser.add_argument("--logs", type=Path, help="keep Ray's logs here")
    parser.add_argument("--json", type=Path, help="also write every row here, once it is there")
    arguments = parser.parse_args()
    stay_offline()
    given = {
        "rates": arguments.rates and tuple(arguments.rates),
        "rate_seconds": arguments.seconds,
        "loads_seconds": arguments.loads_seconds,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    chosen = replace(MACHINES[arguments.machine], **changed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logs = arguments.logs or folder
        logs.mkdir(parents=True, exist_ok=True)
        base = write_base_model(folder, SHAPES[chosen.shape])
        cache = chosen.cache
        limits = Limits(cache.slots, cache.host_capacity, chosen.rank, chosen.arguments)
        fleet = application(base, [folder / "adapters"], folder / "store", limits, chosen.gpus)
        (folder / "adapters").mkdir()
        with running_cluster(fleet, logs) as cluster:
            met = asyncio.run(run(chosen, cluster, folder, arguments))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
