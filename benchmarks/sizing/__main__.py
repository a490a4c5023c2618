"""Truth of `adaptry size`: predictions for settings that were never run, and then run.

    OMP_NUM_THREADS=1 python -m benchmarks.sizing
    OMP_NUM_THREADS=1 python -m benchmarks.sizing --trace ids.txt --requests 600 --rate 6

The first half of the trace is served by one setting, whose server is calibrated. The second half
is predicted for each other setting from those costs, and then served by it. `--trace`: the number
of an adapter in each line. Exits with 1 if loads are more than 2 % off, or a hit ratio a point.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from adaptry.client import Client as Registry
from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.inputs import calibrate
from adaptry.sizing.prediction import Prediction, Setting, predict
from adaptry.sizing.workload import Workload
from benchmarks.common.client import Client, client
from benchmarks.common.servers import Limits, ours_alone
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.sizing.truth import Errors, Measured, errors_of, measure_since, send
from engine.simulation.replay import Arrival
from engine.types import VersionId

RANK = 8
GOAL_SECONDS = 0.5
WARM_UP = (1, 2, 4, 8)  # requests together
WARM_EVERY_SECONDS = 1.0
WARM_SECONDS = WARM_EVERY_SECONDS * len(WARM_UP)


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes for one machine. `recorded`: the setting that is calibrated."""

    shape: str
    recorded: Setting
    never_run: tuple[Setting, ...]
    mean_tokens: int
    arguments: tuple[str, ...]


MACHINES = {
    "cpu": Machine(
        "small",
        Setting(4, 12),
        (Setting(2, 6), Setting(6, 18)),
        8,
        (
            "--enforce-eager",
            "--max-model-len=1024",
            "--max-num-seqs=64",
            "--kv-cache-memory-bytes=134217728",
        ),
    ),
    "h200": Machine(
        "llama-8b",
        Setting(8, 24),
        (Setting(4, 16), Setting(16, 48)),
        64,
        (
            "--max-model-len=2048",
            "--max-num-seqs=64",
            "--gpu-memory-utilization=0.42",
            "--kv-cache-memory-bytes=6442450944",
        ),
    ),
}


def name_of(adapter: VersionId) -> str:
    return f"adapter-{adapter:03}"


def zipf_ids(count: int, adapters: int, seed: int) -> list[int]:
    chance = random.Random(seed)
    sums = list(itertools.accumulate(1 / rank for rank in range(1, adapters + 1)))
    return [bisect(sums, chance.random() * sums[-1]) for _ in range(count)]


def halves(ids: Sequence[int], rate: float, mean_tokens: int, seed: int) -> list[Workload]:
    """Poisson arrivals and geometric lengths, both from the seed."""
    chance = random.Random(seed)
    numbers: dict[int, VersionId] = {}
    found = []
    for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
        at, arrivals = 0.0, []
        for each in part:
            at += chance.expovariate(rate)
            adapter = numbers.setdefault(each, VersionId(len(numbers) + 1))
            tokens = 2 + int(chance.expovariate(1 / mean_tokens))
            arrivals.append(Arrival(at, adapter, tokens, 8))
        found.append(Workload(arrivals, len(numbers)))
    return [warmed(each.arrivals, len(numbers)) for each in found]


def warmed(arrivals: Sequence[Arrival], adapters: int) -> Workload:
    """An engine's first answers take longer: they are for an adapter of their own, and count for
    nothing but the policy, which remembers them. So they belong to what is predicted."""
    warming = [
        Arrival(number * WARM_EVERY_SECONDS, VersionId(adapters + 1), 8, 8)
        for number, together in enumerate(WARM_UP)
        for _ in range(together)
    ]
    later = [replace(each, at=each.at + WARM_SECONDS) for each in arrivals]
    return Workload([*warming, *later], adapters + 1)


async def serve(asking: Client, server: str, workload: Workload) -> Measured:
    async def ask(arrival: Arrival) -> None:
        answer = await asking.ask(name_of(arrival.adapter), max_tokens=arrival.tokens)
        if answer.error:
            raise RuntimeError(answer.error)

    at = time.time()
    await send(workload, ask)
    return await asyncio.to_thread(measure_since, server, at + WARM_SECONDS, at)


def row(
    setting: Setting, predicted: Prediction, measured: Measured, errors: Errors
) -> dict[str, object]:
    return {
        "slots, host places": f"{setting.slots}, {setting.host_places}",
        "loads": f"{measured.loads} (predicted {predicted.loads}, {errors.loads:+.1%})",
        "in a slot": f"{measured.slot_hit_ratio:.1%} ({errors.slot_hits * 100:+.1f} points)",
        "in memory": f"{measured.memory_hit_ratio:.1%} ({errors.memory_hits * 100:+.1f} points)",
        "first token p50": _times(measured.first_token_p50, errors.first_token_p50),
        "p99": _times(measured.first_token_p99, errors.first_token_p99),
    }


def _times(measured: float, error: float) -> str:
    return f"{measured * 1000:.0f} ms (predicted {error:+.0%})"


def keep_trace(server: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Registry(server) as asking, asking.cache.trace() as chunks:
        path.write_bytes(b"".join(chunks))


def measure_costs(server: str, kept: Path | None) -> KnownCosts:
    """`kept`: folder for what was recorded before, and for the costs: `adaptry size` reads both."""
    known = calibrate(server, KnownCosts())
    if kept is not None:
        known.save(kept / "costs.json")
    return known


async def run(
    chosen: Machine, ids: Sequence[int], rate: float, seed: int, folder: Path, kept: Path | None
) -> bool:
    first, held_out = halves(ids, rate, chosen.mean_tokens, seed)
    shape = SHAPES[chosen.shape]
    for number in range(1, first.adapters + 1):
        version = VersionId(number)
        write_adapter(folder / "adapters", name_of(version), shape, rank=RANK, seed=number)
    base = write_base_model(folder, shape)
    known, rows, good = KnownCosts(), [], True
    for place, setting in enumerate((chosen.recorded, *chosen.never_run)):
        logs, state = folder / f"logs-{place}", folder / f"state-{place}"
        logs.mkdir()
        state.mkdir()
        limits = Limits(setting.slots, setting.host_places, RANK, chosen.arguments)
        async with AsyncExitStack() as stack:
            started = ours_alone(base, folder / "adapters", limits, logs, state)
            side = await stack.enter_async_context(started)
            asking = await stack.enter_async_context(client(side.base_url))
            workload = held_out if place else first
            measured = await serve(asking, side.base_url, workload)
            if kept is not None:
                await asyncio.to_thread(keep_trace, side.base_url, kept / f"trace-{place}.jsonl")
            if not place:
                known = await asyncio.to_thread(measure_costs, side.base_url, kept)
                print(f"{machine()}\n{known.costs}\n", flush=True)
        predicted = predict(
            workload,
            known.costs,
            setting,
            first_token_seconds=GOAL_SECONDS,
            warm_share=WARM_SECONDS / workload.seconds,
        )
        errors = errors_of(predicted, measured)
        rows.append(row(setting, predicted, measured, errors))
        good = good and (errors.are_within or not place)
    print_table(rows)
    print("\nThe first row is the setting that was calibrated; the others were never run before.")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--trace", type=Path, help="[default: Zipf over --adapters]")
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--requests", type=int, default=600, help="of both halves")
    parser.add_argument("--rate", type=float, default=5.0, help="requests/s")
    parser.add_argument("--keep", type=Path, help="folder for the recorded trace and the costs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.trace is None:
        ids = zipf_ids(arguments.requests, arguments.adapters, arguments.seed)
    else:
        lines = arguments.trace.read_text(encoding="utf-8").splitlines()
        ids = [int(line) for line in lines if line and not line.startswith("#")]
        ids = ids[: arguments.requests]
    chosen = MACHINES[arguments.machine]
    with tempfile.TemporaryDirectory() as folder:
        work = run(chosen, ids, arguments.rate, arguments.seed, Path(folder), arguments.keep)
        return 0 if asyncio.run(work) else 1


if __name__ == "__main__":
    sys.exit(main())
