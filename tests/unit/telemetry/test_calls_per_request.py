"""Calls of our functions for each request, from the gateway to its counters, over a fake engine."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from prometheus_client import CollectorRegistry

from benchmarks.overhead.metrics_requests import Requests
from engine.ports import Observers
from engine.telemetry.decision_log import DecisionLog
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.shadows import Shadows
from engine.telemetry.spans import NullTracing
from engine.types import EvictionPolicy

ROOT = Path(__file__).parents[3]
OURS = (f"{ROOT}/engine/", f"{ROOT}/registry/")
MOST = 172
"""Each costs about half a microsecond: what adds to it has to save elsewhere."""


def count_calls(requests: int) -> Counter[str]:
    """Of an adapter in its slot, with all that watches; each request generates one token."""
    metrics = CacheMetrics(CollectorRegistry())
    shadows = Shadows(slots=1, host_capacity=1, policy=EvictionPolicy.ADAPTIVE)
    watched = Observers(metrics, DecisionLog(), shadows)
    made = Requests(watched, metrics, NullTracing(), tokens=1)
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        asyncio.run(made.microseconds(requests))
    finally:
        sys.setprofile(None)
    metrics.close()
    return calls


def test_a_request_for_an_adapter_in_its_slot_takes_a_bounded_number_of_calls() -> None:
    calls = count_calls(200) - count_calls(100)
    each = calls.total() / 100
    assert 50 < each <= MOST, calls.most_common(40)
