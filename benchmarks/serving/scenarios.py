"""Scenarios: each runs on one side and returns figures by name."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from benchmarks.common.client import Answer, Client, at_times, keep_asking, quantile
from benchmarks.serving.cold import cold, herd
from benchmarks.serving.goodput import goodput
from benchmarks.serving.idle import REPEATS, idle
from benchmarks.serving.memory import cycles, memory
from benchmarks.serving.plan import Plan

Figures = dict[str, float]

Scenario = Callable[[Client, Plan], Awaitable[Figures]]


async def stall(asking: Client, plan: Plan) -> Figures:
    """Streams of one resident adapter; beside them nothing, short requests for another resident
    one, or as many for cold ones."""
    hot, other = plan.adapters[:2]
    count = int(plan.seconds * plan.loads_per_second)
    figures: Figures = {}
    beside: dict[str, list[str]] = {
        "idle": [],
        "resident": [other] * count,
        "cold": plan.next_cold(count),
    }
    await asking.ask(hot, max_tokens=4)
    await asking.ask(other, max_tokens=4)
    for name, models in beside.items():
        arrivals = [(0.5 + n / plan.loads_per_second, model) for n, model in enumerate(models)]
        over = asyncio.Event()
        streams = [
            asyncio.create_task(
                keep_asking(asking, [hot], max_tokens=plan.tokens_per_stream, until=over)
            )
            for _ in range(plan.streams)
        ]
        await asyncio.sleep(0.5)
        started = time.perf_counter()
        short = await at_times(asking, arrivals, max_tokens=2)
        await asyncio.sleep(max(0.0, started + plan.seconds - time.perf_counter()))
        ended = time.perf_counter()
        over.set()
        answers = [answer for stream in await asyncio.gather(*streams) for answer in stream]
        gaps = [gap * 1000 for gap in _gaps_between(answers, started, ended)]
        figures[f"{name} itl p50 ms"] = quantile(gaps, 0.5)
        figures[f"{name} itl p99 ms"] = quantile(gaps, 0.99)
        figures[f"{name} itl max ms"] = max(gaps)
        if short:
            figures[f"{name} first token p50 ms"] = _first_token_ms(short, 0.5)
            figures[f"{name} first token p99 ms"] = _first_token_ms(short, 0.99)
            figures[f"{name} errors"] = sum(answer.error is not None for answer in short)
    return figures


def _gaps_between(answers: Sequence[Answer], started: float, ended: float) -> Iterator[float]:
    for answer in answers:
        for at, gap in zip(answer.tokens[1:], answer.gaps, strict=True):
            if started <= at <= ended:
                yield gap


def _first_token_ms(answers: Sequence[Answer], share: float) -> float:
    return quantile([answer.first_token_seconds * 1000 for answer in answers], share)


async def starve(asking: Client, plan: Plan) -> Figures:
    """Overlapping streams keep every slot hot, while sequential requests need a cold adapter."""
    hot = plan.adapters[: plan.slots]
    over = asyncio.Event()
    streams = []
    for n in range(plan.hot_streams):
        models = [hot[n % plan.slots]]
        length = plan.hot_tokens + 7 * n  # never all at their end together
        streams.append(
            asyncio.create_task(keep_asking(asking, models, max_tokens=length, until=over))
        )
    await asyncio.sleep(1.0)
    alone_from = time.perf_counter()
    await asyncio.sleep(plan.seconds / 2)
    alone_to = time.perf_counter()
    cold = await _ask_in_turn(asking, plan.next_cold(3), give_up_seconds=plan.seconds * 2)
    cold_to = time.perf_counter()
    over.set()
    answers = [answer for stream in await asyncio.gather(*streams) for answer in stream]
    alone = _tokens_per_second(answers, alone_from, alone_to)
    return {
        "cold first token max ms": max(cold) * 1000,
        "served": sum(seconds != float("inf") for seconds in cold),
        "hot tokens/s alone": alone,
        "hot throughput kept": _tokens_per_second(answers, alone_to, cold_to) / alone,
    }


async def _ask_in_turn(
    asking: Client, models: Sequence[str], *, give_up_seconds: float
) -> list[float]:
    """First-token times in seconds; infinite if there was none, and then no more are sent."""
    seconds: list[float] = []
    for model in models:
        try:
            answer = await asyncio.wait_for(asking.ask(model, max_tokens=2), give_up_seconds)
        except TimeoutError:
            return [*seconds, float("inf")]
        seconds.append(answer.first_token_seconds)
        await asyncio.sleep(0.2)
    return seconds


def _tokens_per_second(answers: Sequence[Answer], started: float, ended: float) -> float:
    tokens = sum(
        answer.tokens_per_time
        for answer in answers
        for at in answer.tokens
        if started <= at <= ended
    )
    return tokens / (ended - started)


async def resident(asking: Client, plan: Plan) -> Figures:
    """As many adapters as slots, all resident: the cost of the layer itself."""
    hot = plan.adapters[: plan.slots]
    for model in hot:
        await asking.ask(model, max_tokens=2)
    over = asyncio.Event()
    workers = [
        asyncio.create_task(keep_asking(asking, [hot[n % plan.slots]], max_tokens=32, until=over))
        for n in range(plan.streams)
    ]
    await asyncio.sleep(1.0)
    started = time.perf_counter()
    await asyncio.sleep(plan.seconds)
    ended = time.perf_counter()
    over.set()
    answers = [answer for worker in await asyncio.gather(*workers) for answer in worker]
    return {
        "tokens/s": _tokens_per_second(answers, started, ended),
        "first token p50 ms": _first_token_ms(answers, 0.5),
    }


async def pinned(asking: Client, plan: Plan) -> Figures:
    """A pinned adapter's first token: alone, beside requests for others that are resident, and
    while the same number of requests scans through a hundred others."""
    favourite = plan.adapters[0]
    is_pinned = await asking.pin(favourite)
    count = max(50, int(plan.seconds * 8))
    beside: dict[str, Sequence[str]] = {
        "alone": (),
        "beside": plan.adapters[1 : plan.slots],
        "scanned": plan.adapters[1:101],
    }
    figures = {"pinned": float(is_pinned)}
    for name, others in beside.items():
        answers = await _ask_beside(asking, favourite, others, count)
        figures[f"{name} first token p50 ms"] = _first_token_ms(answers, 0.5)
        figures[f"{name} first token p99 ms"] = _first_token_ms(answers, 0.99)
    if is_pinned:
        await asking.unpin(favourite)
    return figures


async def _ask_beside(
    asking: Client, favourite: str, others: Sequence[str], count: int
) -> list[Answer]:
    over = asyncio.Event()
    if others:
        scan = asyncio.create_task(keep_asking(asking, others, max_tokens=2, until=over))
        await asyncio.sleep(0.5)
    answers = [await asking.ask(favourite, max_tokens=2, seed=n) for n in range(count)]
    over.set()
    if others:
        await scan
    return answers


BOTH: dict[str, Scenario] = {
    "herd": herd,  # before any other: the first loads after a start
    "stall": stall,
    "cold": cold,
    "starve": starve,
    "goodput": goodput,
    "pinned": pinned,
    "resident": resident,
    "idle": idle,
    "memory": memory,
}
OURS_ONLY: dict[str, Scenario] = {"cycles": cycles}
SCENARIOS = BOTH | OURS_ONLY
REPEATED = {"idle": REPEATS}  # so many times in each round; others once
