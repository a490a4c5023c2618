"""Simulation of slots by rank: equal engines, and as much memory of slots in two classes.

    python -m benchmarks.scale.by_rank
    python -m benchmarks.scale.by_rank --large-every 4 --rate 60

Our routing, and the times of benchmarks/scale/sim.py: no class of slots makes steps faster.
"""

import argparse
from dataclasses import dataclass

from benchmarks.common.tables import print_table
from benchmarks.scale.routers import Ranks
from benchmarks.scale.sim import MEASURED, Workload, named, simulate
from engine.simulation.replica import Shape
from engine.types import VersionId

SMALL, LARGE = 8, 64
SLOTS, HOST_PLACES = 8, 64
GOAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Fleet:
    """`small`: replicas whose slots have the small rank, in the same memory."""

    name: str
    replicas: int
    small: int

    @property
    def max_ranks(self) -> list[int]:
        return [SMALL] * self.small + [LARGE] * (self.replicas - self.small)

    def shapes(self) -> list[Shape]:
        slots = [SLOTS * LARGE // most for most in self.max_ranks]
        return [Shape(count, max(HOST_PLACES, count)) for count in slots]


def row(fleet: Fleet, workload: Workload, large_every: int) -> dict[str, object]:
    """`large_every`: the distance of two adapters of the large rank, by their popularity."""

    def rank_of(adapter: VersionId) -> int:
        return SMALL if adapter % large_every else LARGE

    ranks = Ranks(fleet.max_ranks, rank_of)
    result = simulate(
        "ours", named(fleet.replicas), workload, MEASURED, fleet.shapes(), GOAL_SECONDS, ranks=ranks
    )
    return result.row(fleet.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--small", type=int, default=3, help="replicas with small slots")
    parser.add_argument("--adapters", type=int, default=400)
    parser.add_argument("--large-every", type=int, default=8, help="the rank of each so many-th")
    parser.add_argument("--rate", type=float, default=60.0, help="requests/s of the whole fleet")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated")
    arguments = parser.parse_args()
    workload = Workload(arguments.adapters, arguments.rate, arguments.seconds)
    large = arguments.replicas - arguments.small
    fleets = [
        Fleet(f"{arguments.replicas} × {SLOTS} slots of rank {LARGE}", arguments.replicas, 0),
        Fleet(
            f"{arguments.small} × {SLOTS * LARGE // SMALL} of rank {SMALL}, "
            f"{large} × {SLOTS} of rank {LARGE}",
            arguments.replicas,
            arguments.small,
        ),
    ]
    print_table([row(fleet, workload, arguments.large_every) for fleet in fleets])


if __name__ == "__main__":
    main()
