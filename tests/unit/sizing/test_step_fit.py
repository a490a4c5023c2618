"""Steps of kept runs: what is found in a trace is what its engine's steps cost."""

import json
import random
from pathlib import Path

import pytest

from adaptry.traces.trace import TracedRequest
from benchmarks.sizing.steps import fit, rows
from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import Costs, Request
from engine.types import VersionId

STEP, ADAPTER, REQUEST, PROMPT = 0.010, 0.002, 0.0005, 0.004


def recorded(costs: Costs) -> list[TracedRequest]:
    """Of 600 requests for eight adapters, of which the first few are asked for most."""
    chance, now, arrivals = random.Random(1), 0.0, []
    for _ in range(600):
        now += chance.expovariate(12.0)
        adapter = VersionId(1 + min(int(chance.expovariate(0.5)), 7))
        arrivals.append(Arrival(now, adapter, 8 + int(chance.expovariate(1 / 16)), 8))
    done = replay(arrivals, costs, Shape(8, 8, whole_steps=True))
    return list(map(_line, done.requests))


def _line(each: Request) -> TracedRequest:
    assert each.first_token_at is not None
    assert each.ended_at is not None
    assert each.granted_at is not None
    came = each.arrived_at
    return TracedRequest(
        came,
        f"a{each.adapter}",
        each.tokens,
        8,
        outcome="completed",
        wait_seconds=each.granted_at - came,
        first_token_seconds=each.first_token_at - came,
        seconds=each.ended_at - came,
    )


def test_what_each_adapter_request_and_prompt_adds_to_a_step_is_found() -> None:
    costs = Costs(STEP - REQUEST, REQUEST, PROMPT, 0.0, 0.0, step_seconds_per_adapter=ADAPTER)
    found = fit(recorded(costs))
    assert found.alone == pytest.approx(STEP, rel=0.05)
    assert found.per_adapter == pytest.approx(ADAPTER, rel=0.15)
    assert found.per_request == pytest.approx(REQUEST, rel=0.4)
    assert found.per_prompt == pytest.approx(PROMPT, rel=0.2)
    assert found.share > 0.9


def test_requests_of_one_cost_are_not_taken_for_adapters() -> None:
    costs = Costs(STEP - ADAPTER, ADAPTER, PROMPT, 0.0, 0.0)
    found = fit(recorded(costs))
    assert found.per_request == pytest.approx(ADAPTER, rel=0.15)
    assert abs(found.per_adapter) < 0.15 * ADAPTER


def test_each_kept_run_has_a_row(tmp_path: Path) -> None:
    costs = Costs(STEP, 0.0, PROMPT, 0.0, 0.0, step_seconds_per_adapter=ADAPTER)
    lines = [
        json.dumps({"kind": "request", "version": 1, **each._asdict()}) for each in recorded(costs)
    ]
    for name in ("ours-2-6", "ours-4-12"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    found = list(rows(tmp_path))
    assert [row["run"] for row in found] == ["ours-2-6", "ours-4-12"]
    assert float(str(found[0]["for each further adapter"]).split()[0]) == pytest.approx(2, rel=0.2)
