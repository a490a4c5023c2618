"""A cache without a queue: each request is served before the next one, as textbooks have it."""

from collections import OrderedDict
from collections.abc import Sequence

from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.optimum import next_uses
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


def misses_of_known(used: Sequence[int], known: Sequence[int], places: int) -> int:
    """Of a clairvoyant that sees only what waits: the farthest known use leaves first, but before
    them the least recently used of those of which none is known.

    `known`: for each request, how many have come when it is served, itself among them.
    """
    following = next_uses(used)
    inside, missed = OrderedDict[int, int](), 0  # when each is used next; by recency
    for number, version in enumerate(used):
        if version not in inside:
            missed += 1
            if len(inside) >= places:
                unknown = (each for each, use in inside.items() if use >= known[number])
                victim = next(unknown, None)
                del inside[max(inside, key=inside.__getitem__) if victim is None else victim]
        inside[version] = following[number]
        inside.move_to_end(version)
    return missed
