"""Kept runs of the sizing benchmark: predicted anew, they are as far off as their servers were.

The runs are recorded from simulated servers whose costs are known, as a server exports its trace.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.prediction import Setting
from adaptry.sizing.workload import Workload
from benchmarks.sizing.halves import WARM_SECONDS
from benchmarks.sizing.kept import calibrated_by, rows, workloads
from benchmarks.sizing.machines import MACHINES, Machine
from engine.simulation.replay import replay
from engine.simulation.shared_engine import Costs, Request
from engine.types import VersionId

BEGAN = 1_796_000_000.0
STEPS = ((1, 0.012), (4, 0.015), (8, 0.017))
COSTS = Costs(
    0.012,
    0.0006,
    0.001,
    0.02,
    0.0005,
    prefill_seconds_per_token=0.0005,
    overheads=(0.003,),
    steps=STEPS,
)
CPU = MACHINES["cpu"]


def at_pace(factor: float, costs: Costs = COSTS) -> Costs:
    return replace(
        costs,
        steps=tuple((count, seconds * factor) for count, seconds in costs.steps),
        prefill_seconds=costs.prefill_seconds * factor,
        prefill_seconds_per_token=costs.prefill_seconds_per_token * factor,
    )


def keep_run(folder: Path, name: str, setting: Setting, workload: Workload, costs: Costs) -> None:
    done = replay(workload.arrivals, costs, setting.shape(), orders=setting.orders())
    lines = [server_line(setting), *map(request_line, done.requests), *load_lines(done.loads)]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / f"{name}.jsonl").write_text(text)


def server_line(setting: Setting) -> dict[str, object]:
    return {
        "kind": "server",
        "format": 2,
        "server": "localhost:1",
        "base": "small",
        "slots": setting.slots,
        "host_places": setting.host_places,
        "host_bytes": None,
        "max_rank": 8,
        "max_loads": setting.max_loads,
        "slot_wait_seconds": setting.slot_wait_seconds,
        "eviction_policy": setting.eviction_policy.value,
    }


def request_line(request: Request) -> dict[str, object]:
    assert request.first_token_at is not None
    assert request.ended_at is not None
    assert request.granted_at is not None
    assert request.outcome is not None
    arrived = request.arrived_at
    return {
        "kind": "request",
        "at": BEGAN + arrived,
        **adapter_of(request.adapter),
        "generated_tokens": request.tokens,
        "prompt_tokens": request.prompt_tokens,
        "outcome": "completed",
        "source": request.outcome.value,
        "wait_seconds": request.granted_at - arrived,
        "first_token_seconds": request.first_token_at - arrived,
        "seconds": request.ended_at + COSTS.overheads[0] - arrived,
    }


def load_lines(count: int) -> Iterator[dict[str, object]]:
    """The first was during the warm-up, and counts."""
    for number in range(count):
        yield {
            "kind": "load",
            "at": BEGAN + 0.1 + number / 100,
            **adapter_of(VersionId(1)),
            "transition": "disk_to_host",
            "seconds": COSTS.load_seconds,
            "size_bytes": 1000,
            "rank": 8,
        }


def adapter_of(version: VersionId) -> dict[str, object]:
    return {"adapter": f"adapter-{version:03}", "version": 1}


def keep(folder: Path, calibrated: Costs, held_out_costs: Costs = COSTS) -> None:
    """The costs as they were calibrated; the runs were of `COSTS`, and of these others."""
    KnownCosts(calibrated).save(folder / "costs.json")
    first, held_out = workloads(CPU)
    keep_run(folder, calibrated_by(CPU), CPU.recorded, first, COSTS)
    keep_run(folder, "ours-6-18", Setting(6, 18), held_out, held_out_costs)


def predicted(
    folder: Path, elsewhere: tuple[float, float] | None = None
) -> dict[object, dict[str, float]]:
    """Shares by which they were off."""
    return {
        row.pop("run"): {
            name: float(str(text).strip("%")) / 100
            for name, text in row.items()
            if "range" not in name
        }
        for row in map(dict[str, object], rows(folder, elsewhere))
    }


def test_runs_of_the_calibrated_costs_are_predicted_as_they_were(tmp_path: Path) -> None:
    keep(tmp_path, COSTS)
    found = predicted(tmp_path)
    assert list(found) == ["ours-4-12", "ours-6-18"]
    for errors in found.values():
        assert len(errors) == 9
        assert max(map(abs, errors.values())) <= 0.011


def test_costs_of_another_pace_are_off_alone_and_not_with_the_trace(tmp_path: Path) -> None:
    keep(tmp_path, at_pace(1.5))
    for errors in predicted(tmp_path).values():
        assert errors["p50, costs"] > 0.3
        assert errors["p99, costs"] > 0.3
        assert abs(errors["p50, and trace"]) <= 0.03
        assert abs(errors["p99, and trace"]) <= 0.03


def test_a_run_of_a_slower_machine_is_predicted_too_short(tmp_path: Path) -> None:
    """The pace is that of the run that was calibrated, and of no other."""
    keep(tmp_path, COSTS, at_pace(1.25))
    found = predicted(tmp_path)
    assert abs(found["ours-4-12"]["p50, and trace"]) <= 0.01
    assert -0.3 < found["ours-6-18"]["p50, and trace"] < -0.1
    assert abs(found["ours-6-18"]["p50, own trace"]) <= 0.03
    assert abs(found["ours-6-18"]["p99, own trace"]) <= 0.03


def test_costs_of_one_adapter_take_what_another_benchmark_says_of_several(tmp_path: Path) -> None:
    """No pace of steps that are all as long as one adapter's is right for two and for six slots."""
    alike = replace(COSTS, steps=((1, 0.012), (8, 0.012)))
    real = replace(alike, step_seconds_per_adapter=0.003, prefill_seconds_per_token=0.0)
    KnownCosts(alike).save(tmp_path / "costs.json")
    first, held_out = workloads(CPU)
    keep_run(tmp_path, calibrated_by(CPU), CPU.recorded, first, real)
    keep_run(tmp_path, "ours-2-6", Setting(2, 6), held_out, real)
    keep_run(tmp_path, "ours-6-18", Setting(6, 18), held_out, real)
    without, found = predicted(tmp_path), predicted(tmp_path, (0.012, 0.003))
    assert without["ours-2-6"]["p99, and trace"] > 0.1
    for errors in found.values():
        assert max(map(abs, errors.values())) <= 0.02


def test_a_measured_p99_is_within_the_range_or_outside(tmp_path: Path) -> None:
    keep(tmp_path, COSTS)
    for row in rows(tmp_path):
        assert re.fullmatch(r"\d+ ms, within \d+ to \d+", str(row["p99 and its range"]))
    keep(tmp_path, COSTS, at_pace(2.0))
    held_out = list(rows(tmp_path))[1]
    assert re.fullmatch(r"\d+ ms, outside \d+ to \d+", str(held_out["p99 and its range"]))


def test_loads_that_are_recorded_and_not_predicted_are_an_error(tmp_path: Path) -> None:
    keep(tmp_path, COSTS)
    path = tmp_path / "ours-6-18.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    loads = [each for each in lines if '"kind": "load"' in each]
    path.write_text("".join([*lines, *loads]))
    found = predicted(tmp_path)
    assert found["ours-6-18"]["loads, costs"] == -0.5
    assert abs(found["ours-4-12"]["loads, costs"]) <= 0.001


@pytest.mark.parametrize("chosen", MACHINES.values(), ids=MACHINES)
def test_the_machine_is_known_by_the_setting_that_was_calibrated(chosen: Machine) -> None:
    assert [each for each in MACHINES.values() if calibrated_by(each) == calibrated_by(chosen)] == [
        chosen
    ]
    first, held_out = workloads(chosen)
    for each in (first, held_out):
        later = [x for x in each.arrivals if x.at >= WARM_SECONDS]
        assert len(later) == chosen.requests // 2
