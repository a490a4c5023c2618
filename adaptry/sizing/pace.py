"""Pace: how fast an engine was in what it recorded, beside what a calibration says of that.

A calibration sees some seconds of a machine, which may have been slow or fast just then. Recorded
requests show the engine over minutes, with all that runs beside it.
"""

from collections.abc import Sequence
from dataclasses import replace

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.prediction import Setting
from adaptry.sizing.workload import Workload, workload_of
from adaptry.traces.trace import Trace, TracedRequest
from engine.simulation.replay import replay
from engine.simulation.shared_engine import Costs, Request

MOST_REQUESTS = 5000  # the last ones
FEWEST_TOKENS = 1000
_ROUNDS = 4
"""Slower steps let more requests run at a time, which makes them slower again."""

_STOOD_STILL = 4
"""Times as long as the median of all: no request of a busy or a noisy machine took half of that."""

_IN_ENGINE = (
    "step_seconds",
    "step_seconds_per_request",
    "step_seconds_per_adapter",
    "prefill_seconds",
    "prefill_seconds_per_token",
)


def at_recorded_pace(known: KnownCosts, trace: Trace, setting: Setting) -> KnownCosts:
    """The costs with which a simulation generates the recorded tokens in the recorded time, and by
    how much requests differed from that, which their first tokens do too.

    `setting`: of the server that recorded them. Unchanged if it recorded too little.
    """
    requests = trace.requests[-MOST_REQUESTS:]
    if sum(map(_tokens, requests)) < FEWEST_TOKENS:
        return known
    workload, costs = workload_of(trace, MOST_REQUESTS), known.costs
    costs = replace(costs, first_token_factors=())
    for _ in range(_ROUNDS):
        costs = scale(
            costs, _ratio(_token_seconds(requests, _replay(workload, costs, setting), costs))
        )
    going = _token_seconds(requests, _replay(workload, costs, setting), costs)
    factors = [took / said for took, said in going]
    return KnownCosts(costs, known.sources).with_spread("first_token_factors", factors)


def _replay(workload: Workload, costs: Costs, setting: Setting) -> Sequence[Request]:
    return replay(workload.arrivals, costs, setting.shape(), orders=setting.orders()).requests


def _tokens(request: TracedRequest) -> int:
    """After the first: of those it is known how long they took."""
    is_known = request.outcome == "completed" and request.first_token_seconds is not None
    return max(request.generated_tokens - 1, 0) if is_known else 0


def _token_seconds(
    recorded: Sequence[TracedRequest], simulated: Sequence[Request], costs: Costs
) -> list[tuple[float, float]]:
    """Of each request the seconds that its tokens took, and those that they are said to take.

    Without requests that stood still: an engine compiles kernels while its first ones wait.
    """
    from statistics import median  # takes as long to import as a small simulation

    known = list[tuple[float, float]]()
    for real, other in zip(recorded, simulated, strict=True):
        if not _tokens(real) or real.first_token_seconds is None:
            continue
        if other.first_token_at is None or other.ended_at is None:  # refused
            continue
        took = real.seconds - real.first_token_seconds
        said = other.ended_at + costs.overhead(other.number) - other.first_token_at
        if took > 0 and said > 0:
            known.append((took, said))
    most = _STOOD_STILL * median([took / said for took, said in known]) if known else 0.0
    return [(took, said) for took, said in known if took <= most * said]


def _ratio(going: Sequence[tuple[float, float]]) -> float:
    return sum(took for took, _ in going) / sum(said for _, said in going) if going else 1.0


def scale(costs: Costs, factor: float) -> Costs:
    """Of an engine whose steps and prompts take so many times as long."""
    values = {name: getattr(costs, name) * factor for name in _IN_ENGINE}
    steps, longer = (
        tuple((count, seconds * factor) for count, seconds in curve)
        for curve in (costs.steps, costs.prompt_steps)
    )
    return replace(costs, **values, steps=steps, prompt_steps=longer)
