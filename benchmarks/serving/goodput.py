"""Goodput scenario: requests of a Zipf mix within limits, over a sweep of rates."""

import random

from benchmarks.common.client import Answer, Client, at_times, quantile
from benchmarks.serving.machines import Limit
from benchmarks.serving.plan import Plan

GOOD_SHARE = 0.9
_HOPELESS = 0.5  # of the requests, by the widest limit: higher rates are not sent


async def goodput(asking: Client, plan: Plan) -> dict[str, float]:
    """By limit: the highest rate of which nine in ten are within it, and the share at each rate."""
    limits = plan.zipf_limits or (await _three_times_idle(asking, plan),)
    figures: dict[str, float] = {}
    met = dict.fromkeys(limits, 0.0)
    for turn, rate in enumerate(plan.zipf_requests_per_second):
        arrivals = zipf(plan, rate, seed=turn)
        answers = await at_times(asking, arrivals, max_tokens=plan.zipf_tokens)
        shares = {limit: _share_within(answers, limit) for limit in limits}
        for number, (limit, share) in enumerate(shares.items()):
            figures[f"{rate:g}/s share within {name_of(plan, number)}"] = share
            if share >= GOOD_SHARE:
                met[limit] = max(met[limit], rate)
        first = [answer.first_token_seconds * 1000 for answer in answers]
        figures[f"{rate:g}/s first token p50 ms"] = quantile(first, 0.5)
        figures[f"{rate:g}/s first token p99 ms"] = quantile(first, 0.99)
        gaps = [gap * 1000 for answer in answers for gap in answer.gaps]
        figures[f"{rate:g}/s gap p99 ms"] = quantile(gaps, 0.99)
        figures[f"{rate:g}/s errors"] = sum(answer.error is not None for answer in answers)
        if max(shares.values()) < _HOPELESS:
            break
    by_limit = {
        f"goodput/s within {name_of(plan, number)}": rate
        for number, rate in enumerate(met.values())
    }
    middle = list(met.values())[len(met) // 2]
    return {"goodput/s": middle, **by_limit, **figures}


def name_of(plan: Plan, number: int) -> str:
    if not plan.zipf_limits:
        return "three times idle"
    first, gap = plan.zipf_limits[number]
    return f"{first:g} s, {gap * 1000:g} ms"


async def _three_times_idle(asking: Client, plan: Plan) -> Limit:
    hot = plan.adapters[0]
    await asking.ask(hot, max_tokens=2)
    idle = [await asking.ask(hot, max_tokens=16, seed=n) for n in range(10)]
    first = 3 * quantile([answer.first_token_seconds for answer in idle], 0.5)
    return first, 3 * quantile([gap for answer in idle for gap in answer.gaps], 0.5)


def _share_within(answers: list[Answer], limit: Limit) -> float:
    return sum(is_within(answer, limit) for answer in answers) / len(answers)


def is_within(answer: Answer, limit: Limit) -> bool:
    first, gap = limit
    fluent = not answer.gaps or quantile(answer.gaps, 0.95) <= gap
    return answer.error is None and answer.first_token_seconds <= first and fluent


def zipf(plan: Plan, rate: float, seed: int) -> list[tuple[float, str]]:
    """Poisson arrivals; the n-th adapter is requested 1/n times as often as the first."""
    chance = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(plan.adapters) + 1)]
    arrivals, at = [], 0.0
    while at < plan.seconds:
        at += chance.expovariate(rate)
        arrivals.append((at, chance.choices(plan.adapters, weights)[0]))
    return arrivals
