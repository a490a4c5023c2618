"""Workload to size for: the arrivals of a trace, or of rates, by adapter number."""

import itertools
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptry.terminal.errors import UsageError
from adaptry.traces.trace import Trace
from engine.simulation.replay import Arrival
from engine.simulation.shared_engine import BASE_MODEL
from engine.types import VersionId

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Workload:
    """`sizes`: bytes in host memory, and `ranks`, of the adapters of which they are known."""

    arrivals: Sequence[Arrival]
    adapters: int
    sizes: Mapping[VersionId, int] = field(default_factory=dict)
    ranks: Mapping[VersionId, int] = field(default_factory=dict)

    @property
    def for_adapters(self) -> int:
        """How many requests; the others are for the base model."""
        return sum(each.adapter != BASE_MODEL for each in self.arrivals)

    @property
    def seconds(self) -> float:
        return self.arrivals[-1].at if self.arrivals else 0.0

    def slot_bytes(self, max_rank: int | None = None) -> int | None:
        """Of one slot, if any adapter's size and rank are known: as of the largest for its rank.

        `max_rank`: of the slots; None: the largest rank there is.
        """
        each = [self.sizes[v] / self.ranks[v] for v in self.sizes if self.ranks.get(v)]
        if not each:
            return None
        return round(max(each) * (max_rank or max(self.ranks.values())))

    def scaled(self, factor: float) -> "Workload":
        """The same requests, so many times as fast."""
        arrivals = [
            Arrival(each.at / factor, each.adapter, each.tokens, each.prompt_tokens)
            for each in self.arrivals
        ]
        return Workload(arrivals, self.adapters, self.sizes, self.ranks)


def workload_of(trace: Trace, most: int) -> Workload:
    """The last `most` requests, those for the base model too, whether or not they were served."""
    requests = trace.requests[-most:]
    began = requests[0].at if requests else 0.0
    numbers: dict[str, VersionId] = {}
    arrivals = []
    typical = _typical_tokens(trace)
    for each in requests:
        version = BASE_MODEL
        if each.adapter is not None:
            version = numbers.setdefault(each.adapter, VersionId(len(numbers) + 1))
        tokens = each.generated_tokens or (1 if each.outcome == "completed" else typical)
        arrivals.append(Arrival(each.at - began, version, tokens, each.prompt_tokens))
    sizes = {numbers[x.adapter]: x.size_bytes for x in trace.loads if x.adapter in numbers}
    ranks = {numbers[x.adapter]: x.rank for x in trace.loads if x.adapter in numbers}
    return Workload(arrivals, len(numbers), sizes, ranks)


def _typical_tokens(trace: Trace) -> int:
    """Of a request of which it is not known, as it got no answer."""
    known = [each.generated_tokens for each in trace.requests if each.generated_tokens]
    return sorted(known)[len(known) // 2] if known else 1


def workload_of_rates(
    *,
    adapters: int,
    zipf: float,
    rate: float,
    seconds: float,
    tokens: int,
    prompt_tokens: int,
    seed: int = 1,
    size_bytes: int = 0,
    rank: int = 0,
) -> Workload:
    """Poisson arrivals; the adapter of rank r is requested 1/r**zipf as often as the first; the
    lengths are geometric."""
    if rate * seconds > 5_000_000:
        raise UsageError("more than 5 million requests: a shorter time, or a lower rate")
    from random import Random

    chance = Random(seed)
    sums = list(itertools.accumulate(1 / rank_**zipf for rank_ in range(1, adapters + 1)))
    arrivals, at = [], 0.0
    while (at := at + chance.expovariate(rate)) <= seconds:
        version = VersionId(bisect(sums, chance.random() * sums[-1]) + 1)
        arrivals.append(Arrival(at, version, _geometric(chance, tokens), prompt_tokens))
    if not arrivals:
        raise UsageError("no request comes within that time: a longer time, or a higher rate")
    versions = [VersionId(n) for n in range(1, adapters + 1)]
    sizes = dict.fromkeys(versions, size_bytes) if size_bytes else {}
    return Workload(arrivals, adapters, sizes, dict.fromkeys(versions, rank) if rank else {})


def _geometric(chance: "Random", mean: int) -> int:
    return 1 + (int(chance.expovariate(1 / (mean - 0.5))) if mean > 1 else 0)


@dataclass(frozen=True, slots=True)
class RankClass:
    """Adapters of one rank. `share`: of the requests."""

    rank: int
    adapters: int
    share: float


def rank_classes(workload: Workload) -> list[RankClass]:
    """The largest first; empty if no rank is known."""
    requests: Counter[int] = Counter()
    for each in workload.arrivals:
        if (rank := workload.ranks.get(each.adapter)) is not None:
            requests[rank] += 1
    adapters = Counter(workload.ranks.values())
    total = sum(requests.values()) or 1
    return [RankClass(r, adapters[r], requests[r] / total) for r in sorted(adapters, reverse=True)]
