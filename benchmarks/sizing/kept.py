"""Kept runs of the sizing benchmark, predicted anew: by their costs alone, and with traces.

    python -m benchmarks.sizing --keep FOLDER
    python -m benchmarks.sizing.kept FOLDER
    python -m benchmarks.sizing.kept FOLDER --step-seconds 0.00675 --per-adapter-seconds 0.000463

The second prediction also takes first uses and the pace from the trace of the run that was
calibrated, as `adaptry size --calibrate` does; the third from the trace of the run itself. What
that is off is the simulation's error, and not the machine's speed. Nothing is run.

The options are for costs that were calibrated before steps of several adapters and prompts of
several lengths were: a step of one request and what each further adapter adds to it, as another
benchmark has measured them, `benchmarks.sizing.padding`. Short prompts then cost a step no tokens.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from adaptry.sizing.calibration import PROMPTS
from adaptry.sizing.costs import KnownCosts, load_costs
from adaptry.sizing.inputs import setting_of
from adaptry.sizing.pace import at_recorded_pace
from adaptry.sizing.prediction import Prediction
from adaptry.sizing.workload import Workload
from adaptry.traces.reader import read_lines
from adaptry.traces.trace import Trace
from benchmarks.common.tables import print_table
from benchmarks.sizing.__main__ import described_range, predict_run
from benchmarks.sizing.halves import WARM_SECONDS, halves, zipf_ids
from benchmarks.sizing.machines import MACHINES, Machine
from benchmarks.sizing.measured import Measured, errors_of, measured_of
from benchmarks.sizing.runs import Run

ADAPTERS, SEED = 40, 1
_BEFORE_SECONDS = 0.5  # the last of the warm-up came earlier, the first after it later


def workloads(chosen: Machine) -> list[Workload]:
    """What the benchmark asks without further options."""
    ids = zipf_ids(chosen.requests, ADAPTERS, SEED)
    return halves(ids, chosen.rate, chosen.mean_tokens, SEED)


def calibrated_by(chosen: Machine) -> str:
    """The name of its run."""
    return f"ours-{chosen.recorded.slots}-{chosen.recorded.host_places}"


def compared(
    name: str, trace: Trace, workload: Workload, known: KnownCosts
) -> tuple[Prediction, Measured]:
    trace = replace(trace, requests=trace.requests[: len(workload.arrivals)])
    began = trace.requests[0].at
    at = began + WARM_SECONDS - _BEFORE_SECONDS
    run = Run("again" if name.startswith("again") else "ours", setting_of(trace.server), workload)
    return predict_run(workload, known, run), measured_of(trace, at, began)


def _as_recorded(known: KnownCosts, trace: Trace) -> KnownCosts:
    return at_recorded_pace(known.with_first_uses_of(trace), trace, setting_of(trace.server))


def with_engine(known: KnownCosts, step_seconds: float, per_adapter: float) -> KnownCosts:
    """Of another benchmark. No step is longer for the tokens of a short prompt."""
    steps = [(count, step_seconds) for count, _ in known.costs.steps]
    return known.with_steps(steps, per_adapter, [(PROMPTS[-1], 0.0)])


def rows(folder: Path, elsewhere: tuple[float, float] | None = None) -> Iterator[dict[str, object]]:
    """`elsewhere`: see `with_engine`."""
    paths = sorted(folder.glob("*.jsonl"))
    traces = {each.stem: read_lines(each.read_bytes().splitlines(), str(each)) for each in paths}
    chosen = next(each for each in MACHINES.values() if calibrated_by(each) in traces)
    calibrated = calibrated_by(chosen)
    recorded, alone = traces[calibrated], load_costs(folder / "costs.json")
    alone = alone if elsewhere is None else with_engine(alone, *elsewhere)
    first, held_out = workloads(chosen)
    with_trace = _as_recorded(alone, recorded)
    for name, trace in traces.items():
        workload = first if name == calibrated else held_out
        row: dict[str, object] = {"run": name}
        own = _as_recorded(alone, trace)
        for label, known in (("costs", alone), ("and trace", with_trace), ("own trace", own)):
            predicted, measured = compared(name, trace, workload, known)
            found = errors_of(predicted, measured)
            row[f"loads, {label}"] = f"{found.loads:+.1%}"
            row[f"p50, {label}"] = f"{found.first_token_p50:+.0%}"
            row[f"p99, {label}"] = f"{found.first_token_p99:+.0%}"
            if known is with_trace:
                row["p99 and its range"] = described_range(measured.first_token_p99, predicted)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step-seconds", type=float, help="[default: as calibrated]")
    parser.add_argument("--per-adapter-seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    step = arguments.step_seconds
    elsewhere = None if step is None else (step, arguments.per_adapter_seconds)
    print_table(list(rows(arguments.folder, elsewhere)))


if __name__ == "__main__":
    main()
