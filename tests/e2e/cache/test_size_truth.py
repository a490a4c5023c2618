"""`adaptry size` against the real engine: what it predicts for a sequence, and what comes of it.

Requests that overlap depend on the machine's speed: `python -m benchmarks.sizing` sends those.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.inputs import calibrate, fetch_trace, setting_of
from adaptry.sizing.prediction import Prediction, predict
from adaptry.sizing.workload import workload_of
from adaptry.traces.trace import Trace
from benchmarks.sizing.__main__ import zipf_ids
from benchmarks.sizing.truth import errors_of, measure_since
from demo.tasks import TASKS
from engine.simulation.shared_engine import Costs

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
ADAPTERS = 10
REQUESTS = 150
WARMING = 60
"""What the policy remembers of other tests' evictions and pins, which no trace has, fades."""


@pytest.fixture
def names(server: Any) -> Iterator[list[str]]:
    """Adapters beside the demo's, retired afterwards."""
    folders = [ROOT / "demo" / "adapters" / name for name in sorted(TASKS)]
    names = [f"sized-{n}" for n in range(ADAPTERS)]
    for number, name in enumerate(names):
        server.register(name, folders[number % len(folders)])
    yield names
    server.evict_all()
    for name in names:
        path = f"/api/v1/adapters/{name}/versions/1/retire"
        assert server.client.post(path, json={"force": True}).status_code == 200


AT_ONCE = Costs(1e-6, 0.0, 1e-6, 1e-6, 1e-6)
"""Requests that did not overlap don't in the simulation, whatever this machine's speed."""


def predict_since(trace: Trace, at: float) -> Prediction:
    """With all that came before: the policy remembers it."""
    workload = workload_of(trace, len(trace.requests))
    share = (at - trace.requests[0].at) / workload.seconds
    setting = setting_of(trace.server)
    found = predict(workload, AT_ONCE, setting, first_token_seconds=0.5, warm_share=share)
    misses = round((1 - found.memory_hit_ratio) * found.requests)
    return replace(found, loads=misses)  # each misses alone, and loads


def ask_each(server: Any, references: Sequence[str]) -> None:
    """One after the other."""
    for reference in references:
        assert server.complete(reference, "a=", max_tokens=2).status_code == 200


def test_loads_are_within_2_percent_and_hits_within_a_point(server: Any, names: list[str]) -> None:
    url = server.base_url
    known = calibrate(url, KnownCosts())
    assert known.assumed == ["max_running"]
    assert 0 < known.costs.load_seconds < 5
    ask_each(server, [names[each] for each in zipf_ids(WARMING, ADAPTERS, 6)])
    at = time.time()
    ask_each(server, [names[each] for each in zipf_ids(REQUESTS, ADAPTERS, 5)])
    measured = measure_since(url, at)
    trace = fetch_trace(url)
    setting = setting_of(trace.server)
    assert (setting.slots, setting.host_places, setting.slot_wait_seconds) == (2, 4, 1.0)
    errors = errors_of(predict_since(trace, at), measured)
    assert errors.are_within, errors
    assert measured.loads > 20, "hardly anything was evicted"
