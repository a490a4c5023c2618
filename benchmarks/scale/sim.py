"""Discrete-event simulation of a fleet of replicas: the value of routing by adapter.

    python -m benchmarks.scale.sim
    python -m benchmarks.scale.sim --replicas 10 --adapters 1000 --rate 80 --seconds 60

Each replica uses the server's own cache policy (`engine.policy`). All times were measured, see
docs/scale.md.
"""

import argparse
import itertools
import random
import statistics
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.common.tables import print_table
from benchmarks.scale.routers import ROUTERS, Picture, Ranks
from engine.simulation.agenda import Agenda
from engine.simulation.replica import Replica, Shape
from engine.simulation.shared_engine import Costs, Request
from engine.types import CacheOutcome, VersionId

MEASURED = Costs(  # by benchmarks.scale.live on an H200, with Llama-3.1-8B's shape: docs/scale.md
    step_seconds=0.00646,
    step_seconds_per_request=0.0000095,
    prefill_seconds=0.0143,
    load_seconds=0.0224,
    activate_seconds=0.00065,
)


@dataclass(frozen=True, slots=True)
class Workload:
    """`rate`: requests per second of the whole fleet. The adapter of rank r is requested
    1/r^skew as often as the first."""

    adapters: int
    rate: float
    seconds: float
    skew: float = 1.0
    mean_tokens: int = 128
    seed: int = 1

    def requests(self) -> Iterator[Request]:
        """Requests in order of arrival: Poisson arrivals, geometric lengths."""
        chance = random.Random(self.seed)
        ranks = range(1, self.adapters + 1)
        sums = list(itertools.accumulate(1 / rank**self.skew for rank in ranks))
        arrived_at = 0.0
        for number in itertools.count():
            arrived_at += chance.expovariate(self.rate)
            if arrived_at > self.seconds:
                return
            rank = bisect(sums, chance.random() * sums[-1])
            tokens = 1 + int(chance.expovariate(1 / self.mean_tokens))
            yield Request(number, VersionId(rank + 1), tokens, arrived_at)


@dataclass(frozen=True, slots=True)
class Result:
    """Results of the requests that count. Times in seconds."""

    requests: int
    good: int
    seconds: float
    first_tokens: Sequence[float]
    in_slot: int
    in_memory: int
    loads: int
    busiest: float

    def row(self, routing: str) -> dict[str, object]:
        points = statistics.quantiles(self.first_tokens, n=100)
        return {
            "routing": routing,
            "goodput (requests/s)": f"{self.good / self.seconds:,.0f}",
            "first token p50": f"{points[49] * 1000:,.0f} ms",
            "p99": f"{points[98] * 1000:,.0f} ms",
            "in a slot": f"{self.in_slot / self.requests:.1%}",
            "in memory": f"{self.in_memory / self.requests:.1%}",
            "loads per request": f"{self.loads / self.requests:.3f}",
            "busiest replica ÷ average": f"{self.busiest:.2f}",
        }


def named(replicas: int) -> list[str]:
    """So many."""
    return [f"replica-{n}" for n in range(replicas)]


def simulate(
    routing: str,
    names: Sequence[str],
    workload: Workload,
    costs: Costs,
    shape: Shape | Sequence[Shape],
    slo_seconds: float,
    *,
    warm_share: float = 0.2,
    key: Callable[[VersionId], str] = str,
    ranks: Ranks | None = None,
) -> Result:
    """`names`: of the replicas; they and `key` decide where our routing sends an adapter that is
    nowhere. `shape`: of all, or of each. `ranks`: for our routing only. `slo_seconds`: a request is
    good if its first token came within that. `warm_share`: of the time, from the beginning, whose
    requests do not count."""
    agenda = Agenda()
    shapes = [shape] * len(names) if isinstance(shape, Shape) else shape
    fleet = [Replica(n, agenda, costs, each) for n, each in zip(names, shapes, strict=True)]
    make, every_seconds = ROUTERS[routing]
    picture = Picture(agenda, fleet, every_seconds, key, ranks)
    route = make(picture, random.Random(workload.seed))
    warm = workload.seconds * warm_share
    counted: list[Request] = []
    taken = [0] * len(fleet)
    loads_before = 0
    arriving = workload.requests()

    def arrive(request: Request) -> None:
        nonlocal loads_before
        index = route(request.adapter)
        fleet[index].take(request)
        if request.arrived_at >= warm:
            counted.append(request)
            taken[index] += 1
        else:
            loads_before = sum(replica.loads for replica in fleet)
        expect_next()

    def expect_next() -> None:
        if (request := next(arriving, None)) is None:
            picture.closed = True
        else:
            agenda.at(request.arrived_at, lambda: arrive(request))

    expect_next()
    agenda.run()
    return _result(
        counted,
        seconds=workload.seconds - warm,
        slo_seconds=slo_seconds,
        loads=sum(replica.loads for replica in fleet) - loads_before,
        busiest=max(taken) * len(fleet) / max(sum(taken), 1),
    )


def _result(
    counted: Sequence[Request], *, seconds: float, slo_seconds: float, loads: int, busiest: float
) -> Result:
    first_tokens = [
        request.first_token_at - request.arrived_at
        for request in counted
        if request.first_token_at is not None
    ]
    if len(first_tokens) != len(counted):
        raise RuntimeError("a request has had no answer")
    found = [request.outcome for request in counted]
    return result_of(found, first_tokens, seconds, slo_seconds, loads, busiest)


def result_of(
    found: Sequence[str | None],
    first_tokens: Sequence[float],
    seconds: float,
    slo_seconds: float,
    loads: int,
    busiest: float,
) -> Result:
    """`found`: where each request found its adapter."""
    in_slot = found.count(CacheOutcome.GPU_HIT)
    return Result(
        requests=len(found),
        good=sum(took <= slo_seconds for took in first_tokens),
        seconds=seconds,
        first_tokens=first_tokens,
        in_slot=in_slot,
        in_memory=in_slot + found.count(CacheOutcome.HOST_HIT),
        loads=loads,
        busiest=busiest,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests/s of the whole fleet")
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated")
    parser.add_argument(
        "--load-seconds", type=float, default=MEASURED.load_seconds, help="from disk, or from afar"
    )
    parser.add_argument("--skew", type=float, default=1.0, help="of Zipf's law")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--host", type=int, default=64, help="places in host memory")
    parser.add_argument("--slo-seconds", type=float, default=0.5, help="to the first token")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    workload = Workload(
        arguments.adapters, arguments.rate, arguments.seconds, arguments.skew, seed=arguments.seed
    )
    costs = replace(MEASURED, load_seconds=arguments.load_seconds)
    one = partial(
        simulate,
        names=named(arguments.replicas),
        workload=workload,
        costs=costs,
        shape=Shape(arguments.slots, arguments.host),
        slo_seconds=arguments.slo_seconds,
    )
    with ProcessPoolExecutor() as processes:
        results = processes.map(one, ROUTERS)
        print_table([result.row(name) for name, result in zip(ROUTERS, results, strict=True)])


if __name__ == "__main__":
    main()
