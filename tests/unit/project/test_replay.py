"""Traces replayed over the cache policy: outcomes, waits, refusals, sizes, and the cost of it."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import Costs
from engine.types import AdmissionLimits, CacheOutcome, VersionId
from tests.support.counted_work import counted_work

REQUEST_CALLS = 600  # it makes 290

COSTS = Costs(
    step_seconds=1.0,
    step_seconds_per_request=0.0,
    prefill_seconds=0.0,
    load_seconds=3.0,
    activate_seconds=1.0,
    load_seconds_per_byte=0.5,
)
QUICK = Costs(0.006, 0.00001, 0.003, 0.02, 0.001)
A, B, C = (VersionId(n) for n in (1, 2, 3))


def test_a_replay_says_where_each_request_found_its_adapter_and_how_long_it_waited() -> None:
    trace = [Arrival(0.0, A, 2), Arrival(10.0, A, 1), Arrival(20.0, B, 1), Arrival(30.0, A, 1)]
    result = replay(trace, COSTS, Shape(slots=1, host_capacity=2))
    assert [request.outcome for request in result.requests] == [
        CacheOutcome.MISS,
        CacheOutcome.GPU_HIT,
        CacheOutcome.MISS,
        CacheOutcome.HOST_HIT,
    ]
    assert result.waits == [4.0, 0.0, 4.0, 1.0]
    assert result.first_tokens == [5.0, 1.0, 5.0, 2.0]
    assert [request.ended_at for request in result.requests] == [6.0, 11.0, 25.0, 33.0 - 1.0]
    assert (result.loads, result.activations) == (2, 3)
    assert (result.slot_hit_ratio, result.memory_hit_ratio) == (0.25, 0.5)


def test_a_load_takes_longer_by_its_size_and_what_fits_into_no_memory_is_refused() -> None:
    trace = [Arrival(0.0, A), Arrival(0.0, B)]
    shape = Shape(slots=1, host_capacity=2, host_bytes=10)
    result = replay(trace, COSTS, shape, sizes={A: 4, B: 11})
    assert [request.refused for request in result.requests] == [False, True]
    assert result.waits == [3.0 + 4 * 0.5 + 1.0]
    assert result.served == result.requests[:1]


def test_requests_beyond_the_queue_and_those_that_wait_too_long_are_refused() -> None:
    limits = AdmissionLimits(max_slot_wait_seconds=2.0, slot_timeout_seconds=8.0, max_waiting=2)
    trace = [Arrival(0.0, A, 60), Arrival(10.0, B), Arrival(11.0, C), Arrival(12.0, C)]
    result = replay(trace, COSTS, Shape(slots=1, host_capacity=3, limits=limits))
    assert [request.refused for request in result.requests] == [False, True, True, True]
    assert len(result.served) == 1


def zipf(count: int, rate: float) -> Iterator[Arrival]:
    chance, now = random.Random(4), 0.0
    for _ in range(count):
        now += chance.expovariate(rate)
        yield Arrival(now, VersionId(int(chance.paretovariate(0.5)) % 144 + 1), 32)


def test_a_request_costs_a_bounded_number_of_calls() -> None:
    """45 µs each on the machine of docs/policy.md: a million take a minute."""
    with counted_work(at_most=5000 * REQUEST_CALLS):
        result = replay(zipf(5000, rate=20.0), QUICK, Shape(slots=16, host_capacity=48))
    assert len(result.served) == 5000


def test_a_request_waits_for_the_step_that_has_begun() -> None:
    costs = Costs(0.02, 0.0, 0.0, 0.0, 0.0)
    arrivals = [Arrival(0.0, VersionId(1), 10), Arrival(0.03, VersionId(2), 10)]
    first, second = replay(arrivals, costs, Shape(2, 2)).first_tokens
    assert first == pytest.approx(0.02)
    assert second == pytest.approx(0.04 + 0.02 - 0.03)


def test_in_whole_steps_a_request_waits_for_the_step_of_another_s_prompt() -> None:
    """0 to 30 ms the first prompt, to 60 the second and a token of the first."""
    costs, shape = Costs(0.02, 0.0, 0.01, 0.0, 0.0), Shape(2, 2, whole_steps=True)
    arrivals = [Arrival(0.0, A, 10), Arrival(0.005, B, 10)]
    assert replay(arrivals, costs, shape).first_tokens == pytest.approx([0.03, 0.06 - 0.005])
    joined = replay(arrivals, costs, replace(shape, whole_steps=False)).first_tokens
    assert joined == pytest.approx([0.03, 0.04 - 0.005])


def test_in_whole_steps_the_first_tokens_of_prompts_that_begin_together_come_together() -> None:
    """All that came before 30 ms are in the step until 80; the last token of all is a first one."""
    costs, shape = Costs(0.02, 0.0, 0.01, 0.0, 0.0), Shape(4, 4, whole_steps=True)
    trace = [(0.0, 3), (0.005, 2), (0.01, 1), (0.02, 2), (1.0, 1)]
    arrivals = [Arrival(at, VersionId(n), tokens) for n, (at, tokens) in enumerate(trace, 1)]
    found = [each.first_token_at for each in replay(arrivals, costs, shape).requests]
    assert found == pytest.approx([0.03, 0.08, 0.08, 0.08, 1.03])
