"""Sizing benchmark: predictions of `adaptry size` for settings that were never run, and then run.

    OMP_NUM_THREADS=1 python -m benchmarks.sizing --again --write
    OMP_NUM_THREADS=1 python -m benchmarks.sizing --trace ids.txt --requests 600 --rate 6
    python -m benchmarks.sizing --machine h200

The first half of the trace is served by one setting, whose server is calibrated. The second half
is predicted for each other setting from those costs, and then served by it: `--again`, twice, to
see how far one run is from another; on a GPU, by stock vLLM too. `--trace`: the number of an
adapter in each line. `--write`: into docs/operations/sizing.md. Exits with 1 if loads are more than
2 % off, or a hit ratio a point.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adaptry.sizing.costs import SPREADS, KnownCosts
from adaptry.sizing.prediction import Prediction, predict
from adaptry.sizing.workload import Workload
from benchmarks.common.environment import stay_offline
from benchmarks.common.servers import Side
from benchmarks.common.tables import machine, print_table
from benchmarks.sizing.halves import halves, warm_share, zipf_ids
from benchmarks.sizing.machines import MACHINES, Machine
from benchmarks.sizing.measured import Errors, Measured, errors_of
from benchmarks.sizing.page import Compared, block_of, write
from benchmarks.sizing.runs import (
    Felt,
    Run,
    keep_trace,
    measure,
    measure_costs,
    prepare,
    serve,
    serving,
)
from engine.simulation.shared_engine import Costs

GOAL_SECONDS = 0.5


@dataclass
class Results:
    """Tables as far as they are known. `known`: of the run that is calibrated, the first.

    `began`: on the monotonic clock.
    """

    kept: Path | None
    began: float = field(default_factory=time.perf_counter)
    known: KnownCosts = field(default_factory=KnownCosts)
    compared: list[Compared] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    felt: list[dict[str, object]] = field(default_factory=list)
    are_within: bool = True

    async def add(self, run: Run, side: Side) -> None:
        at, felt = await serve(side, run, GOAL_SECONDS)
        self.felt.append(_felt_row(run, felt))
        seconds = time.perf_counter() - self.began
        if run.kind == "stock":
            print(f"# {seconds:.0f} s: {self.felt[-1]}", flush=True)
            return
        measured = await measure(side, at)
        if self.kept is not None:
            await asyncio.to_thread(keep_trace, side.base_url, self.kept / f"{run.name}.jsonl")
        if is_first := not self.rows:
            self.known = await measure_costs(side.base_url, self.kept)
            print(f"{machine()}\n{_brief(self.known.costs)}\n", flush=True)
        predicted = predict_run(run.workload, self.known, run)
        errors = errors_of(predicted, measured)
        self.compared.append(Compared(run, measured, errors))
        self.rows.append(_row(run, predicted, measured, errors))
        self.are_within = self.are_within and (errors.are_within or is_first)
        print(f"# {seconds:.0f} s: {self.rows[-1]}", flush=True)  # if it is ended before the table


def _brief(costs: Costs) -> str:
    """Of the spreads, the median and the largest."""
    spreads = ((name, sorted(getattr(costs, name))) for name in SPREADS)
    ends = [f"{n} {each[len(each) // 2]:.3g} to {each[-1]:.3g}" for n, each in spreads if each]
    even = replace(costs, overheads=(), load_factors=(), first_token_factors=())
    return ", ".join([str(even), *ends])


def predict_run(workload: Workload, known: KnownCosts, run: Run) -> Prediction:
    return predict(
        workload,
        known.costs,
        run.setting,
        first_token_seconds=GOAL_SECONDS,
        warm_share=warm_share(workload),
    )


def _row(run: Run, predicted: Prediction, measured: Measured, errors: Errors) -> dict[str, object]:
    again = ", again" if run.kind == "again" else ""
    return {
        "slots, host places": f"{run.setting.slots}, {run.setting.host_places}{again}",
        "loads": f"{measured.loads} (predicted {predicted.loads}, {errors.loads:+.1%})",
        "in a slot": f"{measured.slot_hit_ratio:.1%} ({errors.slot_hits * 100:+.1f} points)",
        "in memory": f"{measured.memory_hit_ratio:.1%} ({errors.memory_hits * 100:+.1f} points)",
        "first token p50": _times(measured.first_token_p50, errors.first_token_p50),
        "p99": _times(measured.first_token_p99, errors.first_token_p99),
        "p99 and its range": described_range(measured.first_token_p99, predicted),
    }


def _times(measured: float, error: float) -> str:
    return f"{measured * 1000:.0f} ms (predicted {error:+.0%})"


def described_range(measured_p99: float, predicted: Prediction) -> str:
    """Whether what was measured is between the values predicted for other such requests."""
    least, most = predicted.first_token_p99_range
    where = "within" if least <= measured_p99 <= most else "outside"
    return f"{measured_p99 * 1000:.0f} ms, {where} {least * 1000:.0f} to {most * 1000:.0f}"


def _felt_row(run: Run, felt: Felt) -> dict[str, object]:
    return {
        "server": run.kind,
        "slots, host places": f"{run.setting.slots}, {run.setting.host_places}",
        "first token p50": f"{felt.p50 * 1000:.0f} ms",
        "p99": f"{felt.p99 * 1000:.0f} ms",
        f"within {GOAL_SECONDS:g} s": f"{felt.in_time:.1%}",
    }


def runs_of(chosen: Machine, first: Workload, held_out: Workload, *, again: bool) -> list[Run]:
    runs = [Run("ours", chosen.recorded, first)]
    runs += [Run("ours", setting, held_out) for setting in chosen.never_run]
    runs += [Run("again", setting, held_out) for setting in chosen.never_run if again]
    return runs + [Run("stock", setting, held_out) for setting in chosen.never_run if chosen.stock]


async def work(
    chosen: Machine, runs: Sequence[Run], folder: Path, kept: Path | None, *, into_page: bool
) -> bool:
    results = Results(kept)
    base = prepare(folder, chosen, runs[0].workload.adapters)
    for batch in [runs] if chosen.together else [[each] for each in runs]:
        async with serving(batch, chosen, base) as sides:
            for run, side in zip(batch, sides, strict=True):
                await results.add(run, side)
    print()
    print_table(results.rows)
    print("\nThe first row is the setting that was calibrated; the others were never run before.")
    print("As the client saw it:\n")
    print_table(results.felt)
    if into_page:
        write(block_of(machine(), results.rows, results.compared))
    return results.are_within


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--trace", type=Path, help="[default: Zipf over --adapters]")
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--requests", type=int, help="of both halves [default: the machine's]")
    parser.add_argument("--rate", type=float, help="requests/s [default: the machine's]")
    parser.add_argument("--again", action="store_true", help="each held-out run twice")
    parser.add_argument("--keep", type=Path, help="folder for the recorded traces and the costs")
    parser.add_argument("--write", action="store_true", help="the table into the documentation")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stay_offline()
    chosen = MACHINES[arguments.machine]
    count = arguments.requests or chosen.requests
    if arguments.trace is None:
        ids = zipf_ids(count, arguments.adapters, arguments.seed)
    else:
        lines = arguments.trace.read_text(encoding="utf-8").splitlines()
        ids = [int(line) for line in lines if line and not line.startswith("#")][:count]
    rate = arguments.rate or chosen.rate
    first, held_out = halves(ids, rate, chosen.mean_tokens, arguments.seed)
    runs = runs_of(chosen, first, held_out, again=arguments.again)
    with tempfile.TemporaryDirectory() as folder:
        work_done = work(chosen, runs, Path(folder), arguments.keep, into_page=arguments.write)
        return 0 if asyncio.run(work_done) else 1


if __name__ == "__main__":
    sys.exit(main())
