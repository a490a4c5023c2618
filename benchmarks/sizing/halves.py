"""Halves of a trace: one to calibrate with, one that is held out, each with a warm-up before it."""

import random
from collections.abc import Sequence
from dataclasses import replace

from adaptry.sizing.workload import Workload
from benchmarks.policies.traces import zipf
from engine.simulation.replay import Arrival
from engine.types import VersionId

PROMPT_TOKENS = 8
WARM_UP = (1, 2, 4, 8)  # requests together
WARM_EVERY_SECONDS = 1.0
WARM_SECONDS = WARM_EVERY_SECONDS * len(WARM_UP)


def zipf_ids(count: int, adapters: int, seed: int) -> list[int]:
    draw = zipf(random.Random(seed), adapters, 1.0, first=0)
    return [draw() for _ in range(count)]


def halves(ids: Sequence[int], rate: float, mean_tokens: int, seed: int) -> list[Workload]:
    """Poisson arrivals and geometric lengths, both from the seed."""
    chance = random.Random(seed)
    numbers: dict[int, VersionId] = {}
    found = []
    for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
        at, arrivals = 0.0, []
        for each in part:
            at += chance.expovariate(rate)
            adapter = numbers.setdefault(each, VersionId(len(numbers) + 1))
            tokens = 2 + int(chance.expovariate(1 / mean_tokens))
            arrivals.append(Arrival(at, adapter, tokens, PROMPT_TOKENS))
        found.append(arrivals)
    return [warmed(arrivals, len(numbers)) for arrivals in found]


def warmed(arrivals: Sequence[Arrival], adapters: int) -> Workload:
    """An engine's first answers take longer: they are for an adapter of their own, and don't count.

    They are a part of the workload, as the policy remembers them.
    """
    warming = [
        Arrival(number * WARM_EVERY_SECONDS, VersionId(adapters + 1), PROMPT_TOKENS, PROMPT_TOKENS)
        for number, together in enumerate(WARM_UP)
        for _ in range(together)
    ]
    later = [replace(each, at=each.at + WARM_SECONDS) for each in arrivals]
    return Workload([*warming, *later], adapters + 1)


def warm_share(workload: Workload) -> float:
    """Of the time: requests that came in it don't count."""
    return WARM_SECONDS / workload.seconds
