"""Idle scenario: sequential requests for resident adapters."""

import json
from collections.abc import Sequence

from benchmarks.common.client import Client, quantile
from benchmarks.serving.plan import Plan

_MEASURED = 20
REPEATS = 10  # a prefill takes some ms more or less from one second to the next, on both sides


async def idle(asking: Client, plan: Plan) -> dict[str, float]:
    """About a second, so that both sides are measured in the same minute, often.

    Where the server has timers, also what was spent outside the engine.
    """
    hot = plan.adapters[: plan.slots]
    for model in hot:
        await asking.ask(model, max_tokens=2)
    known = len(_lines(plan))
    answers = [await asking.ask(hot[n % len(hot)], max_tokens=2, seed=n) for n in range(_MEASURED)]
    first = [answer.first_token_seconds * 1000 for answer in answers]
    figures = {"first token p50 ms": quantile(first, 0.5)}
    if plan.stages is not None:
        figures |= _stages(_lines(plan)[known:])
    return figures


def _stages(lines: Sequence[str]) -> dict[str, float]:
    """From arrival to the engine's start, and from its first output until that is sent."""
    found = [json.loads(line) for line in lines]
    return {
        "before the engine p50 ms": quantile([before for before, _ in found], 0.5),
        "after the engine p50 ms": quantile([after for _, after in found], 0.5),
    }


def _lines(plan: Plan) -> list[str]:
    return plan.stages.read_text().splitlines() if plan.stages is not None else []
