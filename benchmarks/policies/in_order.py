"""A cache without a queue: each request is served before the next one, as textbooks have it."""

import heapq
from collections.abc import Sequence

from engine.policy.eviction_orders.base import EvictionOrder
from engine.types import VersionId

_NEVER = 1 << 60


def misses(used: Sequence[int], places: int, order: EvictionOrder) -> int:
    """Of so many places, all the same size. Every missed adapter has to enter."""
    inside, missed = set[VersionId](), 0
    for version in map(VersionId, used):
        if version not in inside:
            missed += 1
            if len(inside) >= places:
                victim = next(order.in_order())
                order.remove(victim)
                inside.remove(victim)
            order.insert(version)
            inside.add(version)
        order.touch(version, granted=True)
    return missed


def least_misses(used: Sequence[int], places: int) -> int:
    """Belady's optimum: the one whose next use is farthest leaves."""
    following, last = [0] * len(used), dict[int, int]()
    for at in range(len(used) - 1, -1, -1):
        following[at] = last.get(used[at], _NEVER + at)
        last[used[at]] = at
    inside, farthest, missed = dict[int, int](), list[tuple[int, int]](), 0
    for at, version in enumerate(used):
        if version not in inside:
            missed += 1
            while len(inside) >= places:
                use, victim = heapq.heappop(farthest)
                if inside.get(victim) == -use:
                    del inside[victim]
        inside[version] = following[at]
        heapq.heappush(farthest, (-following[at], version))
    return missed
