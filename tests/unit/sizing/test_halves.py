"""Halves of a trace, as `python -m benchmarks.sizing` serves and predicts them."""

from dataclasses import replace

from adaptry.sizing.prediction import Setting, predict
from adaptry.sizing.workload import Workload
from benchmarks.sizing.halves import (
    PROMPT_TOKENS,
    WARM_SECONDS,
    WARM_UP,
    halves,
    warm_share,
    zipf_ids,
)
from benchmarks.sizing.machines import MACHINES
from engine.simulation.shared_engine import Costs

COSTS = Costs(0.011, 0.001, 0.004, 0.004, 0.001)


def predicted_loads(workload: Workload, setting: Setting) -> tuple[int, int]:
    found = predict(
        workload, COSTS, setting, first_token_seconds=0.5, warm_share=warm_share(workload)
    )
    return found.requests, found.loads


def test_each_half_has_the_warm_up_before_it_and_only_its_own_requests_count() -> None:
    parts = halves(zipf_ids(200, 20, 1), 5.0, 8, 1)
    assert len(parts) == 2
    for part in parts:
        warming = [each for each in part.arrivals if each.at < WARM_SECONDS]
        assert len(warming) == sum(WARM_UP)
        (adapter,) = {each.adapter for each in warming}
        assert adapter not in {each.adapter for each in part.arrivals if each not in warming}
        assert {each.prompt_tokens for each in part.arrivals} == {PROMPT_TOKENS}
        assert predicted_loads(part, Setting(4, 8))[0] == 100


def test_a_prediction_without_the_warm_up_has_other_loads() -> None:
    """The default policy remembers it: on two live servers that was 4 % of the loads."""
    chosen = MACHINES["cpu"]
    _, held_out = halves(zipf_ids(600, 40, 1), 5.0, chosen.mean_tokens, 1)
    later = [each for each in held_out.arrivals if each.at >= WARM_SECONDS]
    alone = replace(held_out, arrivals=later)
    with_it, without = (predicted_loads(each, Setting(6, 18))[1] for each in (held_out, alone))
    assert with_it - 1 > without, "beside the load of the warm-up itself"
