"""A cache without a queue: each request is served before the next one, as textbooks have it."""

from collections.abc import Sequence

from engine.policy.eviction_orders.base import EvictionOrder
from engine.types import VersionId


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
        order.touch(version, granted=False)
    return missed
