"""Which replicas an adapter belongs on: the first ones of its own order of them."""

from collections.abc import Iterable

from fleet.placement import order


def first_for(adapter: str, replicas: Iterable[str], count: int | None) -> frozenset[str]:
    """So many of them, or all: the ones that requests for it go to where it is nowhere."""
    return frozenset(order(adapter, tuple(sorted(replicas)))[:count])
