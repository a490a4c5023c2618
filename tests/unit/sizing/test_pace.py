"""Pace: an engine's trace says how fast it was, and how long first uses of adapters took."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from adaptry.sizing.costs import KnownCosts, load_costs
from adaptry.sizing.pace import at_recorded_pace
from adaptry.sizing.prediction import Setting, predict, quantile
from adaptry.sizing.workload import workload_of
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace, TracedRequest
from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import BASE_MODEL, Costs, Request
from engine.types import VersionId

STEPS = ((1, 0.010), (2, 0.016), (4, 0.018), (8, 0.024))
COSTS = Costs(
    0.0, 0.001, 0.004, 0.0, 0.0, prefill_seconds_per_token=0.0005, overheads=(0.003,), steps=STEPS
)


def recorded(costs: Costs, rate: float, count: int = 1500) -> list[TracedRequest]:
    """What a server of these costs records of requests at random."""
    chance, now, arrivals = random.Random(1), 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        tokens = 1 + int(chance.expovariate(1 / 12))
        arrivals.append(Arrival(now, VersionId(1 + chance.randrange(4)), tokens, 8))
    done = replay(arrivals, costs, Shape(4, 8, whole_steps=True))
    return [_line(each) for each in done.requests]


def _line(each: Request) -> TracedRequest:
    assert each.first_token_at is not None
    assert each.ended_at is not None
    first = each.first_token_at - each.arrived_at
    seconds = max(each.ended_at + 0.003 - each.arrived_at, first)
    wait = (each.granted_at or each.arrived_at) - each.arrived_at
    return TracedRequest(
        each.arrived_at,
        f"a{each.adapter}:1",
        each.tokens,
        8,
        wait_seconds=wait,
        first_token_seconds=first,
        seconds=seconds,
    )


def setting_of_recorded() -> Setting:
    return Setting(slots=4, host_places=8)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5])
def test_costs_of_another_pace_become_those_of_the_engine_that_recorded(factor: float) -> None:
    """As if the machine had been slow or fast while it was calibrated."""
    trace = Trace(recorded(COSTS, 9.0))
    steps = tuple((count, seconds * factor) for count, seconds in STEPS)
    other = replace(
        COSTS,
        steps=steps,
        prefill_seconds=0.004 * factor,
        prefill_seconds_per_token=0.0005 * factor,
    )
    found = at_recorded_pace(KnownCosts(other), trace, setting_of_recorded()).costs
    for count in (1, 2, 4, 8):
        assert found.step(count) == pytest.approx(COSTS.step(count), rel=0.02)
    assert found.prefill_seconds == pytest.approx(0.004, rel=0.02)
    assert found.load_seconds == COSTS.load_seconds


def test_requests_that_stood_still_once_are_not_the_pace() -> None:
    """A second and a half, while kernels were compiled: 8 % of what all of them took."""
    lines = recorded(COSTS, 9.0)
    stood = [each._replace(seconds=each.seconds + 9.0) for each in lines[20:32]]
    trace = Trace([*lines[:20], *stood, *lines[32:]])
    found = at_recorded_pace(KnownCosts(COSTS), trace, setting_of_recorded()).costs
    assert found.step(2) == pytest.approx(COSTS.step(2), rel=0.02)


def test_first_tokens_are_spread_as_the_steps_of_the_recorded_requests_were() -> None:
    """A machine whose steps take as long in the mean, and some of them half as long again."""
    chance = random.Random(3)
    lines = [uneven(chance, each) for each in recorded(COSTS, 9.0)]
    known = at_recorded_pace(KnownCosts(COSTS), Trace(lines), setting_of_recorded())
    factors = known.costs.first_token_factors
    assert factors[30] == pytest.approx(0.75, abs=0.1)
    assert factors[-10] == pytest.approx(1.5, abs=0.2)
    even = replace(known.costs, first_token_factors=())
    real = quantile([each.first_token_seconds or 0.0 for each in lines], 0.99)
    assert p99(known.costs, lines) == pytest.approx(real, rel=0.06)
    assert p99(even, lines) < 0.85 * real


def uneven(chance: random.Random, line: TracedRequest) -> TracedRequest:
    """Of which one in three takes half as long again, and others a quarter less."""
    first, engine = chance.choice([0.75, 0.75, 1.5]), chance.choice([0.75, 0.75, 1.5])
    assert line.first_token_seconds is not None
    until = (line.first_token_seconds - 0.003 - line.wait_seconds) * first
    until += 0.003 + line.wait_seconds
    after = (line.seconds - line.first_token_seconds) * engine
    return line._replace(first_token_seconds=until, seconds=until + after)


def p99(costs: Costs, lines: list[TracedRequest]) -> float:
    workload = workload_of(Trace(lines), len(lines))
    return predict(workload, costs, setting_of_recorded(), first_token_seconds=1).first_token_p99


def test_what_is_recorded_of_few_tokens_changes_nothing() -> None:
    known, lines = KnownCosts(COSTS), recorded(COSTS, 9.0, count=20)
    failed = [each._replace(outcome="failed", seconds=90.0) for each in recorded(COSTS, 9.0)]
    for requests in ([], lines, failed):
        assert at_recorded_pace(known, Trace(requests), setting_of_recorded()) == known


def test_an_adapter_s_first_request_takes_as_much_longer_as_was_recorded() -> None:
    """Of those that load it: until then its name was looked up in no registry."""
    first = [_miss(n, f"a{n}:1", 0.040) for n in range(9)]
    later = [_miss(10 + n, f"a{n}:1", 0.028) for n in range(9)]
    hits = [_miss(20 + n, f"a{n}:1", 0.9)._replace(source="host_hit") for n in range(9)]
    known = KnownCosts().with_first_uses_of(Trace([*first, *later, *hits]))
    assert known.costs.first_use_seconds == pytest.approx(0.012)
    few = KnownCosts().with_first_uses_of(Trace([*first[:7], *later]))
    assert few.costs.first_use_seconds == 0
    sooner = KnownCosts().with_first_uses_of(Trace([*first[:1], *later[1:], *later, *later]))
    assert sooner.costs.first_use_seconds == 0


def _miss(at: float, adapter: str, seconds: float) -> TracedRequest:
    wait = 0.005
    return TracedRequest(
        at, adapter, 2, 8, source="miss", wait_seconds=wait, first_token_seconds=seconds + wait
    )


def test_a_first_use_is_simulated_once_for_each_adapter_and_never_for_the_base_model() -> None:
    costs = replace(COSTS, overheads=(), first_use_seconds=0.012)
    versions = (VersionId(1), VersionId(2), VersionId(1), BASE_MODEL)
    arrivals = [Arrival(float(n), version, 1) for n, version in enumerate(versions)]
    shape = Shape(2, 2, whole_steps=True)
    with_it, without = (
        replay(arrivals, each, shape).requests
        for each in (costs, replace(costs, first_use_seconds=0.0))
    )
    more = [
        (x.first_token_at or 0.0) - (y.first_token_at or 0.0)
        for x, y in zip(with_it, without, strict=True)
    ]
    assert more == pytest.approx([0.012, 0.012, 0.0, 0.0])


def test_a_step_is_between_those_measured_and_takes_as_long_for_tokens_of_a_prompt() -> None:
    costs = replace(COSTS, prefill_seconds=0.0)
    assert [costs.step(n) for n in (1, 2, 3, 8, 10)] == pytest.approx(
        [0.010, 0.016, 0.017, 0.024, 0.026]
    )
    assert costs.step(1) + costs.prefill(1, 8, 0) == pytest.approx(0.024), "8 tokens"
    assert costs.step(1) + costs.prefill(1, 12, 0) == pytest.approx(0.024 + 4 * 0.0005)
    assert costs.step(2) + costs.prefill(1, 7, 1) == pytest.approx(0.024), "1 and 7"
    assert costs.step(3) + costs.prefill(2, 7, 1) == pytest.approx(0.024), "1, and 7 of two"
    assert costs.step(31) + costs.prefill(1, 8, 30) == pytest.approx(costs.step(31) + 7 * 0.0005)
    assert costs.prefill(1, 0, 3) == costs.prefill(1, 1, 3) == 0


def test_a_step_of_more_tokens_than_were_asked_together_takes_what_such_prompts_took() -> None:
    """On a GPU nothing until its CUDA graphs end, and then much at once."""
    longer = ((16, 0.0), (64, 0.006), (128, 0.070))
    costs = replace(COSTS, prefill_seconds=0.0, prompt_steps=longer)
    eight = costs.step(8)
    assert costs.step(1) + costs.prefill(1, 16, 0) == pytest.approx(eight)
    assert costs.step(3) + costs.prefill(1, 12, 2) == pytest.approx(eight), "2 and 12"
    assert costs.step(1) + costs.prefill(1, 40, 0) == pytest.approx(eight + 0.003)
    assert costs.step(1) + costs.prefill(1, 96, 0) == pytest.approx(eight + 0.038)
    assert costs.step(1) + costs.prefill(1, 130, 0) == pytest.approx(eight + 0.070 + 2 * 0.0005)
    assert costs.step(41) + costs.prefill(1, 24, 40) == pytest.approx(
        costs.step(41) + 0.006 - 25 / 48 * 0.006
    )


def test_saved_steps_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    KnownCosts().with_steps(STEPS, 0.0004, ((16, 0.001), (64, 0.002))).save(path)
    assert load_costs(path).costs.steps == STEPS
    assert load_costs(path).costs.prompt_steps == ((16, 0.001), (64, 0.002))
    assert load_costs(path).costs.step_seconds_per_adapter == 0.0004
    path.write_text(path.read_text().replace("0.016", "-0.016"))
    with pytest.raises(CommandError, match="below 0"):
        load_costs(path)
    for wrong in ((STEPS[::-1],), (STEPS, 0.0, ((64, 0.001), (16, 0.001)))):
        KnownCosts().with_steps(*wrong).save(path)
        with pytest.raises(CommandError, match="in no order"):
            load_costs(path)
