"""Optimum: the fewest misses of any policy, by one that knows what comes (Belady, 1966). Pure."""

import heapq
from collections.abc import Sequence

_NEVER = 1 << 60


def least_misses(used: Sequence[int], places: int, *, since: int = 0) -> int:
    """Of the uses from number `since` on, over so many places. Every missed one has to enter."""
    following = next_uses(used)
    inside, farthest, missed = dict[int, int](), list[tuple[int, int]](), 0
    for at, version in enumerate(used):
        if version not in inside:
            missed += at >= since
            while len(inside) >= places:
                use, victim = heapq.heappop(farthest)
                if inside.get(victim) == -use:
                    del inside[victim]
        inside[version] = following[at]
        heapq.heappush(farthest, (-following[at], version))
    return missed


def next_uses(used: Sequence[int]) -> list[int]:
    """For each use, the number of the next one of the same; a larger one if there is none."""
    following, last = [0] * len(used), dict[int, int]()
    for at in range(len(used) - 1, -1, -1):
        following[at] = last.get(used[at], _NEVER + at)
        last[used[at]] = at
    return following
