"""Placement: which replica a request goes to. The one that holds its adapter, unless overloaded.

A replica's load may exceed the least busy one's by a bound before others are preferred: consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018), over rendezvous hashing
(Thaler and Ravishankar, 1998) for adapters that no replica holds.

Replicas may serve ranks up to different limits, each a class. A request goes only where its
adapter's rank fits, and to the smallest such class rather than to one with larger slots.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    *,
    rank: int = 0,
    max_ranks: Sequence[int | None] | None = None,
) -> int:
    """The index of a replica that serves this rank, and whose load is at most what `bound` allows
    those that do.

    `loads`: requests that each of `replicas` has now. `max_ranks`: the largest rank that each
    serves, None where that is unknown; without it they are all alike. Of the replicas that have the
    adapter nearest, those of the smallest class, and of these the least busy; if none holds it,
    the first of the adapter's order in that class. If its rank fits nowhere, as if it fitted
    everywhere. Raises ValueError if there is no replica.
    """
    if not replicas:
        raise ValueError("there is no replica")
    limits = max_ranks or [None] * len(replicas)
    able = _find_fitting(rank, limits)
    most = bound.most([loads[index] for index in able])
    positions = _positions(adapter, tuple(replicas))

    def cost(index: int) -> tuple[int, int, int, int]:
        near = nearness[index]
        load = 0 if near is Nearness.DISK else loads[index]
        return near, limits[index] or 0, load, positions[index]

    return min((index for index in able if loads[index] <= most), key=cost)


def least_busy(loads: Sequence[int], rank: int, max_ranks: Sequence[int | None]) -> int:
    """The index of the least busy replica that serves this rank: any, of a request without one."""
    able = _find_fitting(rank, max_ranks) if rank else range(len(loads))
    return min(able, key=loads.__getitem__)


def order(
    adapter: str, replicas: Sequence[str], rank: int = 0, max_ranks: Mapping[str, int] | None = None
) -> list[str]:
    """The adapter's order: while no replica holds it, its requests go to the first.

    Only replicas that serve this rank, the smallest class first, and within a class in rendezvous
    order; all of them if it fits nowhere.
    """
    limits = [(max_ranks or {}).get(name) for name in replicas]
    positions = _positions(adapter, tuple(replicas))
    able = _find_fitting(rank, limits)
    able.sort(key=lambda index: (limits[index] or 0, positions[index]))
    return [replicas[index] for index in able]


def first_for(
    adapter: str,
    replicas: Iterable[str],
    count: int | None,
    *,
    rank: int = 0,
    max_ranks: Mapping[str, int] | None = None,
) -> frozenset[str]:
    """The first `count` replicas of the adapter's order, or all of it (None)."""
    return frozenset(order(adapter, tuple(sorted(replicas)), rank, max_ranks)[:count])


def _find_fitting(rank: int, max_ranks: Sequence[int | None]) -> list[int]:
    """The indices of those that serve the rank; else of those that may; else of all."""
    fitting = [i for i, most in enumerate(max_ranks) if most is not None and rank <= most]
    unknown = [i for i, most in enumerate(max_ranks) if most is None]
    return fitting or unknown or list(range(len(max_ranks)))


@lru_cache(maxsize=_ADAPTERS_REMEMBERED)
def _positions(adapter: str, replicas: tuple[str, ...]) -> tuple[int, ...]:
    """The position of each replica in the adapter's order."""
    seeds = (f"{adapter}\0{replica}".encode() for replica in replicas)
    draws = [blake2b(seed, digest_size=8).digest() for seed in seeds]
    drawn = sorted(range(len(draws)), key=draws.__getitem__)
    positions = [0] * len(drawn)
    for position, index in enumerate(drawn):
        positions[index] = position
    return tuple(positions)
