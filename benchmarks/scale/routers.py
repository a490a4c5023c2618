"""Routers of the simulation: our placement, and other strategies to compare with."""

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from engine.simulation.agenda import Agenda
from engine.simulation.replica import Replica
from engine.types import VersionId
from fleet.placement import Bound, Nearness, choose

SWITCH_VARIABLE = "BENCHMARK_RANDOM_ROUTING"
"""Names the file with which a fleet's routing is random: benchmarks/scale/switched_router.py."""

Router = Callable[[VersionId], int]
"""Returns the index of the replica for a request of an adapter."""


class Known(Protocol):
    """The state that our placement needs from an ingress."""

    @property
    def names(self) -> Sequence[str]:
        """The replicas' names."""

    def key(self, adapter: VersionId) -> str:
        """The key of an adapter's rendezvous order."""

    def loads(self) -> list[int]:
        """The number of requests that each replica has now."""

    def nearness(self, adapter: VersionId) -> list[Nearness]:
        """Where each replica has the adapter."""

    def sent(self, adapter: VersionId, index: int) -> None:
        """Record that a request for the adapter went to a replica."""

    @property
    def ranks(self) -> "Ranks | None":
        """None: all replicas serve all adapters."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """`max_ranks`: the largest that each replica serves. `rank_of` an adapter."""

    max_ranks: Sequence[int]
    rank_of: Callable[[VersionId], int]


def nearness_in(
    adapter: VersionId, gpu: Sequence[Set[VersionId]], host: Sequence[Set[VersionId]]
) -> list[Nearness]:
    """Of replicas that hold these in slots, and those in host memory."""
    return [
        Nearness.SLOT if adapter in slots else Nearness.HOST if adapter in held else Nearness.DISK
        for slots, held in zip(gpu, host, strict=True)
    ]


@dataclass
class Picture:
    """An ingress's knowledge of residency: the replicas' last reports, and what it has sent
    since. The loads it counts itself."""

    agenda: Agenda
    replicas: Sequence[Replica]
    every_seconds: float
    key: Callable[[VersionId], str] = str
    ranks: Ranks | None = None
    gpu: list[frozenset[VersionId]] = field(init=False)
    host: list[set[VersionId]] = field(init=False)
    closed: bool = False

    def __post_init__(self) -> None:
        self._look()

    def _look(self) -> None:
        held = [replica.policy.residency() for replica in self.replicas]
        self.gpu = [frozenset(each.gpu) for each in held]
        self.host = [set(each.host) for each in held]
        if not self.closed:
            self.agenda.after(self.every_seconds, self._look)

    def loads(self) -> list[int]:
        return [replica.load for replica in self.replicas]

    @property
    def names(self) -> Sequence[str]:
        return [replica.name for replica in self.replicas]

    def nearness(self, adapter: VersionId) -> list[Nearness]:
        return nearness_in(adapter, self.gpu, self.host)

    def sent(self, adapter: VersionId, index: int) -> None:
        self.host[index].add(adapter)


def ours(known: Known, _: random.Random | None = None, bound: Bound | None = None) -> Router:
    names, limit, ranks = known.names, bound or Bound(), known.ranks

    def route(adapter: VersionId) -> int:
        index = choose(
            known.key(adapter),
            names,
            known.loads(),
            known.nearness(adapter),
            limit,
            rank=0 if ranks is None else ranks.rank_of(adapter),
            max_ranks=None if ranks is None else ranks.max_ranks,
        )
        known.sent(adapter, index)
        return index

    return route


def at_random(picture: Picture, chance: random.Random) -> Router:
    return lambda _: chance.randrange(len(picture.replicas))


def least_loaded(picture: Picture, chance: random.Random) -> Router:
    """A random one of the least loaded."""

    def route(_: VersionId) -> int:
        loads = picture.loads()
        least = min(loads)
        return chance.choice([index for index, load in enumerate(loads) if load == least])

    return route


def ray_multiplex(picture: Picture, chance: random.Random) -> Router:
    """Ray Serve's `MultiplexMixin` with its power of two choices, as of Ray 2.60: among those that
    have the model; if there is none, among those that have the fewest models.

    It hears of models sooner than we assume for ours, and no replica is ever full.
    """

    def route(adapter: VersionId) -> int:
        candidates = [index for index, held in enumerate(picture.host) if adapter in held]
        if not candidates:
            fewest = min(map(len, picture.host))
            candidates = [i for i, held in enumerate(picture.host) if len(held) == fewest]
        two = chance.sample(candidates, min(2, len(candidates)))
        index = min(two, key=lambda i: picture.replicas[i].load)
        picture.sent(adapter, index)
        return index

    return route


ROUTERS: dict[str, tuple[Callable[[Picture, random.Random], Router], float]] = {
    "ours": (ours, 1.0),
    "random": (at_random, 1.0),
    "least loaded": (least_loaded, 1.0),
    "Ray's multiplex": (ray_multiplex, 0.1),
}
"""Each with the interval of the replicas' reports, in seconds."""
