"""Every eviction policy against the contract of `EvictionOrder`, and inside the whole cache policy.

A new module in `engine/policy/eviction_orders` is found here without being listed. `MruOrder` and
`CountOrder` exist in this file only: they show that a policy is one class that nothing else knows.
"""

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Literal
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cache.tenant_memory import Tenancy
from engine.policy import eviction_orders
from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.base import EvictionKey, EvictionOrder
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.types import EvictionReason, Tier, VersionId
from registry.quotas.limits import NO_LIMITS, TenantLimits
from tests.support.cache.controller_harness import Cache, adapter, running
from tests.support.cache.policy_machine import PlainOrder, policy_test

A, B, C = (VersionId(n) for n in (1, 2, 3))


class MruOrder(PlainOrder):
    """The most recently used first: good for scans that come round again."""

    def __init__(self) -> None:
        self._uses = 0
        self._last_uses: dict[VersionId, int] = {}

    def insert(self, version: VersionId) -> None:
        self._uses += 1
        self._last_uses[version] = self._uses

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self.insert(version)

    def remove(self, version: VersionId) -> None:
        self._last_uses.pop(version, None)

    def clear(self) -> None:
        self._last_uses.clear()

    def key(self, version: VersionId) -> EvictionKey:
        return (-self._last_uses[version],)

    def in_order(self) -> Iterator[VersionId]:
        return iter(sorted(self._last_uses, key=self.key))


class CountOrder(PlainOrder):
    """The fewest requests first; among equals, the one that entered first."""

    def __init__(self) -> None:
        self._entries = 0
        self._requests: dict[VersionId, EvictionKey] = {}

    def insert(self, version: VersionId) -> None:
        self._entries += 1
        self._requests[version] = (0, self._entries)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        requests, entry = self._requests[version]
        self._requests[version] = (requests + granted, entry)

    def remove(self, version: VersionId) -> None:
        self._requests.pop(version, None)

    def clear(self) -> None:
        self._requests.clear()

    def key(self, version: VersionId) -> EvictionKey:
        return self._requests[version]

    def in_order(self) -> Iterator[VersionId]:
        return iter(sorted(self._requests, key=self.key))


def shipped_orders() -> list[Callable[[], EvictionOrder]]:
    """Every class named …Order of the package, but for the port itself."""
    folder = eviction_orders.__path__
    names = [module.name for module in pkgutil.iter_modules(folder) if module.name != "base"]
    modules = [importlib.import_module(f"{eviction_orders.__name__}.{name}") for name in names]
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("Order") and value.__module__ == module.__name__
    ]


ORDERS = [*shipped_orders(), MruOrder, CountOrder]
every_order = pytest.mark.parametrize("new_order", ORDERS)

Step = tuple[
    Literal["insert", "grant", "release", "remove", "clear", "foresee", "forget", "cost"], VersionId
]
KINDS = ["insert"] * 3 + ["grant"] * 3 + ["release", "remove", "clear", "foresee", "forget", "cost"]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 6).map(VersionId)),
    max_size=60,
)


def follow(
    order: EvictionOrder, steps: list[Step], after_each: Callable[[], object] = lambda: None
) -> set[VersionId]:
    """Apply what is possible of the steps; returns what has to be in the order then."""
    inside: set[VersionId] = set()
    for number, (what, version) in enumerate(steps):
        if what == "foresee":
            order.foresee(version, number)
        elif what == "forget":
            order.foresee(version, None)
        elif what == "cost":
            order.learn_cost(version, 1000 * (1 + number % 3), 0.1 * (1 + number % 5))
        elif what == "clear":
            order.clear()
            inside.clear()
        elif what == "remove":
            order.remove(version)
            inside.discard(version)
        elif what == "insert" and version not in inside:
            order.insert(version)
            inside.add(version)
        elif what in ("grant", "release") and version in inside:
            order.touch(version, granted=what == "grant")
        after_each()
    return inside


def test_the_shipped_orders_are_found() -> None:
    assert LruOrder in shipped_orders()


@every_order
@given(steps=STEPS)
def test_what_was_inserted_and_not_removed_is_in_the_order_once(
    new_order: Callable[[], EvictionOrder], steps: list[Step]
) -> None:
    order = new_order()
    inside = follow(order, steps)
    assert sorted(order.in_order()) == sorted(inside)


@every_order
@given(steps=STEPS)
def test_reading_the_order_changes_nothing(
    new_order: Callable[[], EvictionOrder], steps: list[Step]
) -> None:
    read, unread = new_order(), new_order()
    follow(read, steps, after_each=lambda: [next(read.in_order(), None), *read.in_order()])
    follow(unread, steps)
    assert list(read.in_order()) == list(unread.in_order())


@every_order
@given(steps=STEPS)
def test_the_order_is_sorted_by_its_keys_and_a_key_changes_only_with_its_version(
    new_order: Callable[[], EvictionOrder], steps: list[Step]
) -> None:
    order, keys = new_order(), dict[VersionId, EvictionKey]()
    for n, (_, touched) in enumerate(steps):
        order, before = new_order(), keys
        follow(order, steps[: n + 1])
        assert list(order.in_order()) == sorted(order.in_order(), key=order.key)
        keys = {version: order.key(version) for version in order.in_order()}
        others = (keys.keys() & before.keys()) - {touched}
        assert all(keys[version] == before[version] for version in others)


@every_order
def test_a_version_that_is_not_in_the_order_may_be_removed(
    new_order: Callable[[], EvictionOrder],
) -> None:
    order = new_order()
    order.remove(A)
    order.insert(B)
    order.remove(A)
    assert list(order.in_order()) == [B]


@every_order
def test_a_version_may_come_back(new_order: Callable[[], EvictionOrder]) -> None:
    order = new_order()
    order.insert(A)
    order.touch(A, granted=True)
    order.remove(A)
    order.insert(A)
    assert list(order.in_order()) == [A]
    order.clear()
    order.insert(A)
    assert list(order.in_order()) == [A]


# ---- LRU ------------------------------------------------------------------------------------


def test_lru_counts_the_entry_the_grant_and_the_release() -> None:
    order = LruOrder()
    for version in (A, B, C):
        order.insert(version)
    assert list(order.in_order()) == [A, B, C]
    order.touch(A, granted=True)
    assert list(order.in_order()) == [B, C, A]
    order.touch(B, granted=False)
    assert list(order.in_order()) == [C, A, B]


# ---- inside the whole policy ----------------------------------------------------------------


def property_tests() -> dict[str, type[TestCase]]:
    """LRU has its own, against a list; the others against a second instance of themselves."""
    others = [order for order in ORDERS if order is not LruOrder]
    names = [getattr(order, "__name__", "") for order in others]
    tests = {
        f"Test{name}InThePolicy": policy_test(order, order, examples=25)
        for name, order in zip(names, others, strict=True)
    }
    for name, order in (("Lru", LruOrder), ("Adaptive", AdaptiveOrder)):
        test = policy_test(order, order, examples=25, own_slot_order=True)
        tests[f"Test{name}OrderOfTheSlotsInThePolicy"] = test
    return tests


globals().update(property_tests())


VERSIONS = [adapter(n, f"acme~a{n}") for n in range(1, 5)]


async def evicted_under(
    new_order: Callable[[], EvictionOrder], tenancy: Tenancy | None = None
) -> list[tuple[VersionId, Tier, EvictionReason]]:
    """Three adapters are used, the first twice; then room is made for a fourth."""
    cache = Cache(slots=3, host=3, tenancy=tenancy, eviction_order=new_order())
    first, second, third, fourth = VERSIONS
    async with running(cache):
        for version in (first, second, first, third, fourth):
            await cache.use(version)
    cache.check()
    return [each for each in cache.observer.evictions if each[1] is Tier.HOST]


VICTIMS = pytest.mark.parametrize(
    ("new_order", "victim"),
    [(LruOrder, VersionId(2)), (MruOrder, VersionId(3)), (CountOrder, VersionId(2))],
)


@VICTIMS
async def test_the_controller_evicts_in_the_order_of_the_policy(
    new_order: Callable[[], EvictionOrder], victim: VersionId
) -> None:
    evicted = await evicted_under(new_order)
    assert evicted == [(victim, Tier.HOST, EvictionReason.CAPACITY)]


@VICTIMS
async def test_a_tenant_out_of_host_memory_evicts_in_the_same_order(
    new_order: Callable[[], EvictionOrder], victim: VersionId
) -> None:
    three = TenantLimits(max_host_bytes=300)
    tenancy = Tenancy(lambda name: "acme", lambda tenant: three if tenant else NO_LIMITS)
    evicted = await evicted_under(new_order, tenancy)
    assert evicted == [(victim, Tier.HOST, EvictionReason.TENANT_LIMIT)]


async def test_under_look_ahead_what_waits_within_its_tenants_limits_leaves_last() -> None:
    awaited, held = adapter(1, "acme~awaited"), adapter(2, "acme~held")
    plain, other = adapter(3, "plain"), adapter(4, "other")
    one = TenantLimits(max_slots=1)
    tenancy = Tenancy(
        lambda name: "acme" if "~" in name else None, lambda tenant: one if tenant else NO_LIMITS
    )
    cache = Cache(slots=3, host=3, tenancy=tenancy, eviction_order=LookAheadOrder())
    async with running(cache):
        for version in (awaited, plain):
            await cache.use(version)
        async with cache.controller.lease(held):
            waiting = asyncio.create_task(cache.use(awaited))
            await asyncio.sleep(0)
            await cache.use(other)
        await waiting
    assert cache.policy.foresight.next_use(awaited.id) is None
    evicted = [version for version, tier, _ in cache.observer.evictions if tier is Tier.HOST]
    assert evicted == [plain.id], "the least recently used is awaited"
