"""`adaptry size` against the real engine: what it predicts for a sequence, and what comes of it.

A server of its own: what other tests evict and pin is in no trace, and policies remember it.
Requests that overlap depend on the machine's speed: `python -m benchmarks.sizing` sends those.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.inputs import calibrate, fetch_trace, setting_of
from adaptry.sizing.prediction import Prediction, predict
from adaptry.sizing.workload import workload_of
from adaptry.traces.trace import Trace
from benchmarks.sizing.halves import zipf_ids
from benchmarks.sizing.measured import errors_of, measure_since
from demo.tasks import TASKS
from engine.simulation.shared_engine import Costs
from engine.types import EvictionPolicy
from tests.support.servers.adaptry_serve import ServedDemo

pytestmark = [pytest.mark.servers("forked")]

REQUESTS = 150
AT_ONCE = Costs(1e-6, 0.0, 1e-6, 1e-6, 1e-6)
"""Requests that did not overlap don't in the simulation, whatever this machine's speed."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedDemo]:
    server = ServedDemo(tmp_path)
    server.arguments = ("--eviction-policy", "lru")
    try:
        server.start()
        for name in TASKS:
            server.register(name)
        yield server
    finally:
        server.stop()
        server.client.close()


def predict_since(trace: Trace, at: float) -> Prediction:
    """With all that came before."""
    workload = workload_of(trace, len(trace.requests))
    share = (at - trace.requests[0].at) / workload.seconds
    setting = setting_of(trace.server)
    found = predict(workload, AT_ONCE, setting, first_token_seconds=0.5, warm_share=share)
    misses = round((1 - found.memory_hit_ratio) * found.requests)
    return replace(found, loads=misses)  # each misses alone, and loads


def test_loads_are_within_2_percent_and_hits_within_a_point(served: ServedDemo) -> None:
    url = served.url()
    known = calibrate(url, KnownCosts())
    assert known.assumed == ["max_running"]
    assert 0 < known.costs.load_seconds < 5
    names, at = sorted(TASKS), time.time()
    for adapter in zipf_ids(REQUESTS, len(names), 5):
        assert served.complete(names[adapter], "a", max_tokens=2).status_code == 200
    measured = measure_since(url, at)
    trace = fetch_trace(url)
    setting = setting_of(trace.server)
    assert (setting.slots, setting.host_places, setting.slot_wait_seconds) == (2, 4, 1.0)
    assert setting.eviction_policy is EvictionPolicy.LRU
    errors = errors_of(predict_since(trace, at), measured)
    assert errors.are_within, errors
    assert measured.loads > 20, "hardly anything was evicted"
