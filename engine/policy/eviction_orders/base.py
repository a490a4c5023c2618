"""EvictionOrder: the port of an eviction policy. Pure: no clock, no I/O, no randomness.

A policy is one new module in this folder. It decides only the order: leases, pins, capacities,
drains and promises to waiters are the same under every policy, and `CachePolicy` enforces them.
"""

from collections.abc import Iterator
from typing import Protocol

from engine.types import VersionId

EvictionKey = tuple[int, ...]


class EvictionOrder(Protocol):
    """The adapters in host memory, the next victim first. The slots are in the same order.

    `tests/unit/policy/test_eviction_orders.py` holds every policy to this contract.
    """

    def insert(self, version: VersionId) -> None:
        """It enters the host tier. It is not in the order yet."""

    def touch(self, version: VersionId, *, granted: bool) -> None:
        """A request begins (`granted`) or ends to hold it: twice for each request.

        A policy by recency counts both, one by frequency only the grant.
        """

    def remove(self, version: VersionId) -> None:
        """It left the host tier, or never got there. Ignored if it is not in the order."""

    def clear(self) -> None:
        """The engine is a new one: nothing is resident."""

    def key(self, version: VersionId) -> EvictionKey:
        """Its rank: the lowest is the next victim. Only `insert` and `touch` of it change it.

        Of adapters that are in the order; `in_order` is sorted by it. With it, the cache keeps
        those that may leave in this order without scanning the others.
        """

    def in_order(self) -> Iterator[VersionId]:
        """Every adapter once, the next victim first.

        Reading changes nothing. The caller may stop early, so a policy should yield the first one
        before it has sorted the rest; and it may not change the order while it iterates.
        """
