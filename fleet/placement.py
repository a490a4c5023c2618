"""Placement: which replica a request goes to. The one that holds its adapter, unless overloaded.

A replica's load may exceed the least busy one's by a bound before others are preferred: consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018), over rendezvous hashing
(Thaler and Ravishankar, 1998) for adapters that no replica holds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

_ADAPTERS_REMEMBERED = 100_000


class Nearness(IntEnum):
    """Where a replica has an adapter; less is nearer."""

    SLOT = 0
    HOST = 1
    DISK = 2


@dataclass(frozen=True, slots=True)
class Bound:
    """The load up to which a replica is preferred for the adapters it holds: the larger of
    `least + slack` and `share` times the average, rounded up."""

    slack: int = 4
    share: float = 1.25

    def most(self, loads: Sequence[int]) -> int:
        average = sum(loads) / len(loads)
        return max(min(loads) + self.slack, -int(-self.share * average // 1))


def choose(
    adapter: str,
    replicas: Sequence[str],
    loads: Sequence[int],
    nearness: Sequence[Nearness],
    bound: Bound,
) -> int:
    """The index of a replica whose load is at most `bound.most(loads)`.

    `loads`: requests that each of `replicas` has now. Of the replicas that have the adapter
    nearest, the least busy; if none holds it, the first of the adapter's order. Raises ValueError
    if there is no replica.
    """
    if not replicas:
        raise ValueError("there is no replica")
    most = bound.most(loads)
    ranks = _ranks(adapter, tuple(replicas))
    able = (index for index, load in enumerate(loads) if load <= most)

    def cost(index: int) -> tuple[int, int, int]:
        near = nearness[index]
        return near, 0 if near is Nearness.DISK else loads[index], ranks[index]

    return min(able, key=cost)


def order(adapter: str, replicas: Sequence[str]) -> list[str]:
    """The adapter's rendezvous order: while no replica holds it, its requests go to the first."""
    ranks = dict(zip(replicas, _ranks(adapter, tuple(replicas)), strict=True))
    return sorted(ranks, key=ranks.__getitem__)


def first_for(adapter: str, replicas: Iterable[str], count: int | None) -> frozenset[str]:
    """The first `count` replicas of the adapter's order, or all (None)."""
    return frozenset(order(adapter, tuple(sorted(replicas)))[:count])


@lru_cache(maxsize=_ADAPTERS_REMEMBERED)
def _ranks(adapter: str, replicas: tuple[str, ...]) -> tuple[int, ...]:
    """The position of each replica in the adapter's order."""
    seeds = (f"{adapter}\0{replica}".encode() for replica in replicas)
    draws = [blake2b(seed, digest_size=8).digest() for seed in seeds]
    drawn = sorted(range(len(draws)), key=draws.__getitem__)
    ranks = [0] * len(drawn)
    for rank, index in enumerate(drawn):
        ranks[index] = rank
    return tuple(ranks)
