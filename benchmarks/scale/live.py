"""Validation of the simulation: two real engines and their simulation get the same requests.

    OMP_NUM_THREADS=1 python -m benchmarks.scale.live
    OMP_NUM_THREADS=1 python -m benchmarks.scale.live --ingress ours
    python -m benchmarks.scale.live --machine h100 --ingress ours

The engines are those of `adaptry serve --replicas 2`; with `--ingress ours` two servers, and this
process places each request by our routing. The requests are sent open-loop. Before that, the
engines' own times are measured. Exits with 1 if loads differ by more than 3 %, or a hit ratio by
a point.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common.client import Answer, Client
from benchmarks.common.servers import Limits
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, name_of, write_adapters, write_base_model
from benchmarks.scale.fronts import FRONTS, Front
from benchmarks.scale.sim import Result, Workload, result_of, simulate
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import Costs, Request

REPLICAS = 2
LOOK_SECONDS = 1.0
SLO_SECONDS = 0.5
CALIBRATION_TOKENS = 64
CALIBRATIONS = 3


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes for one machine. `together`: number of concurrent requests for timing a step."""

    shape: str
    rank: int
    cache: Shape
    workload: Workload
    together: tuple[int, ...]
    arguments: tuple[str, ...]


MACHINES = {
    "cpu": Machine(
        shape="small",
        rank=8,
        cache=Shape(slots=4, host_capacity=12),
        workload=Workload(adapters=60, rate=1.5, seconds=200.0, mean_tokens=12),
        together=(1, 2, 4),
        arguments=(
            "--enforce-eager",
            "--max-model-len=1024",
            "--max-num-seqs=64",
            "--kv-cache-memory-bytes=134217728",
        ),
    ),
    "h100": Machine(
        shape="llama-8b",
        rank=16,
        cache=Shape(slots=8, host_capacity=24),
        workload=Workload(adapters=128, rate=12.0, seconds=120.0, mean_tokens=64),
        together=(1, 4, 16, 32),
        arguments=(
            "--max-model-len=2048",
            "--max-num-seqs=64",
            "--gpu-memory-utilization=0.42",
            "--kv-cache-memory-bytes=6442450944",
            '--compilation-config={"cudagraph_capture_sizes": '
            "[1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128]}",
        ),
    ),
}


def loads(counters: Mapping[str, float], what: str, transition: str = "disk_to_host") -> float:
    """`what`: "sum" or "count", of all engines whose samples these are."""
    prefix, label = f"adaptry_load_seconds_{what}{{", f'transition="{transition}"'
    return sum(n for name, n in counters.items() if name.startswith(prefix) and label in name)


async def calibrate(server: Client, adapters: int, together: Sequence[int]) -> Costs:
    """The times of one server, from its own metrics and from the times of tokens."""
    before = await server.counters()
    for adapter in range(1, adapters + 1):
        await server.ask(name_of(adapter), max_tokens=1)
    after = await server.counters()

    def average(transition: str) -> float:
        total, count = (
            loads(after, what, transition) - loads(before, what, transition)
            for what in ("sum", "count")
        )
        return total / count

    resident = name_of(adapters)

    async def at_once(count: int) -> list[Answer]:
        asking = (server.ask(resident, max_tokens=CALIBRATION_TOKENS) for _ in range(count))
        return await asyncio.gather(*asking)

    await server.ask(resident, max_tokens=CALIBRATION_TOKENS)
    timed = {
        count: [answer for _ in range(CALIBRATIONS) for answer in await at_once(count)]
        for count in together
    }
    gaps = [statistics.median(g for answer in timed[n] for g in answer.gaps) for n in together]
    slope, alone = statistics.linear_regression(together, gaps)
    first = statistics.median(answer.first_token_seconds for answer in timed[1])
    return Costs(
        step_seconds=alone,
        step_seconds_per_request=max(slope, 0.0),
        prefill_seconds=max(first - alone - slope, 0.0),
        load_seconds=average("disk_to_host"),
        activate_seconds=average("host_to_gpu"),
    )


async def evict_all(server: Client) -> None:
    for reference in set((await server.residents())["host"]):
        await server.evict(reference)


async def loads_of(front: Front) -> float:
    return sum([loads(await server.counters(), "count") for server in front.servers])


async def send_all(front: Front, workload: Workload) -> list[Answer]:
    """Open loop: each request at its time, independent of the others."""
    started = time.perf_counter()

    async def one(request: Request) -> Answer:
        await asyncio.sleep(max(0.0, started + request.arrived_at - time.perf_counter()))
        return await front.ask(request)

    return await asyncio.gather(*map(one, workload.requests()))


async def live(front: Front, workload: Workload) -> Result:
    """All requests count, starting with an empty cache."""
    before = await loads_of(front)
    answers = await send_all(front, workload)
    if failed := [answer.error for answer in answers if answer.error]:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    return result_of(
        [answer.found for answer in answers],
        [answer.first_token_seconds for answer in answers],
        workload.seconds,
        SLO_SECONDS,
        loads=int(await loads_of(front) - before),
        busiest=float("nan"),
    )


def compare(real: Result, simulated: Result) -> bool:
    """Print both; returns whether they agree."""
    rows = [real.row("two engines"), simulated.row("their simulation")]
    for row in rows:
        row.pop("busiest replica ÷ average")
    print_table(rows)
    loads = abs(simulated.loads / real.loads - 1)
    ratios = [
        abs(getattr(simulated, what) - getattr(real, what)) / real.requests
        for what in ("in_slot", "in_memory")
    ]
    print(f"\nloads differ by {loads:.1%}; in a slot {ratios[0]:.1%}, in memory {ratios[1]:.1%}")
    return loads <= 0.03 and max(ratios) <= 0.01


async def measure(chosen: Machine, ingress: str, workload: Workload, folder: Path) -> bool:
    shape = SHAPES[chosen.shape]
    adapters = folder / "adapters"
    names = [name_of(n) for n in range(1, workload.adapters + 1)]
    write_adapters(adapters, names, shape, rank=chosen.rank)
    base = write_base_model(folder, shape)
    cache = chosen.cache
    limits = Limits(cache.slots, cache.host_capacity, chosen.rank, chosen.arguments)
    async with FRONTS[ingress](REPLICAS, base, adapters, limits, folder) as front:
        costs = await calibrate(front.servers[0], workload.adapters, chosen.together)
        print(f"{machine()}\n{costs}\n", flush=True)
        for server in front.servers:
            await evict_all(server)
        real = await live(front, workload)
    simulated = simulate(
        "ours",
        front.names,
        workload,
        costs,
        cache,
        SLO_SECONDS,
        warm_share=0.0,
        key=front.key,
    )
    return compare(real, simulated)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--ingress", choices=FRONTS, default="ray")
    parser.add_argument("--rate", type=float, help="requests/s of both engines together")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen = MACHINES[arguments.machine]
    changed = {name: getattr(arguments, name) for name in ("rate", "seconds", "seed")}
    given = {name: value for name, value in changed.items() if value is not None}
    workload = replace(chosen.workload, **given)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(chosen, arguments.ingress, workload, Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
