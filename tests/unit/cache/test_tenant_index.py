"""The tenant index says what a scan of the policy says, whatever happens to the adapters."""

import itertools
import random
from contextlib import suppress

import pytest

from engine.cache.tenant_index import TenantIndex
from engine.errors import EngineError
from engine.policy.decisions import Activate, Commit, Grant, StartLoad, Ticket
from engine.policy.policy import CachePolicy
from engine.types import Tier, VersionId
from tests.support.cache.settled_policy import settle

VERSIONS = [VersionId(number) for number in range(1, 16)]
SLOTS, PLACES, HOST_BYTES = 2, 5, 60


def owner(version: VersionId) -> str | None:
    return (None, "acme", "corp")[version % 3]


class World:
    """Random events; loads and moves end at some later time, or fail."""

    def __init__(self, seed: int) -> None:
        self.policy = CachePolicy(slots=SLOTS, host_capacity=PLACES, host_bytes=HOST_BYTES)
        self.index = TenantIndex(self.policy, owner)
        self._random = random.Random(seed)
        self._tickets = itertools.count(1)
        self._waiting: list[Ticket] = []
        self._leased: list[VersionId] = []
        self._loading: list[VersionId] = []
        self._moving: list[VersionId] = []

    def step(self) -> None:
        event = self._random.choice(
            [self._arrive] * 4
            + [self._release] * 4
            + [self._load] * 3
            + [self._move] * 4
            + [self._cancel, self._pin, self._unpin, self._evict, self._prefetch, self._fail]
            + [self._die] * (self._random.random() < 0.05)
        )
        with suppress(EngineError):  # refused, such as a pin too many
            event()
        self._advance()

    def _any(self) -> VersionId:
        return self._random.choice(VERSIONS)

    def _pop(self, of: list[VersionId]) -> VersionId | None:
        return of.pop(self._random.randrange(len(of))) if of else None

    def _arrive(self) -> None:
        version = self._any()
        self.policy.learn_size(version, 5 + version % 10)
        ticket = next(self._tickets)
        self.policy.arrive(ticket, version)
        self._waiting.append(ticket)

    def _cancel(self) -> None:
        if self._waiting:
            self.policy.cancel(self._waiting.pop(0))

    def _release(self) -> None:
        if (version := self._pop(self._leased)) is not None:
            self.policy.release(version)

    def _load(self) -> None:
        if (version := self._pop(self._loading)) is not None:
            self.policy.on_loaded(version, 4 + version % 10)

    def _move(self) -> None:
        if (version := self._pop(self._moving)) is not None:
            self.policy.on_moved(version)

    def _fail(self) -> None:
        of = self._random.choice([self._loading, self._moving])
        if (version := self._pop(of)) is not None:
            failed = self.policy.on_failed(version)
            self._waiting = [each for each in self._waiting if each not in failed]

    def _pin(self) -> None:
        self.policy.pin(self._any(), self._random.choice(list(Tier)))

    def _unpin(self) -> None:
        self.policy.pins.remove(self._any())

    def _evict(self) -> None:
        self.policy.evict(self._any(), when_idle=True)

    def _prefetch(self) -> None:
        version = self._any()
        self.policy.learn_size(version, 5)
        self.policy.prefetch(version)

    def _die(self) -> None:
        self.policy.cancel_all()
        self.policy.reset()
        for of in (self._leased, self._loading, self._moving):
            of.clear()
        self._waiting.clear()

    def _advance(self) -> None:
        for decision in self.policy.advance():
            match decision:
                case StartLoad(version):
                    self._loading.append(version)
                case Commit(version) | Activate(version):
                    self._moving.append(version)
                case Grant(ticket, version):
                    self._waiting.remove(ticket)
                    self._leased.append(version)

    def check(self, tenant: str) -> None:
        policy = self.policy
        held = {*policy.residency().host, *policy.in_transit(), *policy._planner.prefetches}
        own = {version for version in held if owner(version) == tenant}
        assert {v for v in VERSIONS if self.index.has(tenant, v)} == own
        assert self.index.bytes_of(tenant) == sum(map(policy.size_of, own))
        pinned = {version for version in policy.pins if owner(version) == tenant}
        assert set(self.index.pinned(tenant)) == pinned
        assert list(self.index.evictable(tenant)) == [
            version
            for version in policy.host_in_eviction_order()
            if version in own - pinned and not policy.in_use(version)
        ]
        assert (tenant in self.index.tenants()) == bool(own or pinned)


@pytest.mark.parametrize("seed", range(5))
def test_the_index_agrees_with_a_scan(seed: int) -> None:
    world = World(seed)
    for _ in range(1500):
        world.step()
        world.check("acme")
        world.check("corp")


def test_room_for_a_tenant_is_made_without_looking_at_the_others_adapters() -> None:
    policy = CachePolicy(slots=1, host_capacity=2000)
    index = TenantIndex(policy, owner)
    for number in range(1, 1500):
        policy.learn_size(VersionId(number), 10)
        policy.prefetch(VersionId(number))
        settle(policy)
    policy.residency = policy.host_in_eviction_order = None  # type: ignore[assignment, method-assign]  # no scan
    assert index.bytes_of("acme") == 10 * len(range(1, 1500, 3))
    assert next(index.evictable("acme")) == 1


@pytest.mark.parametrize("later", [None, "corp"])
def test_what_has_another_owner_since_it_was_loaded_leaves_as_the_first_ones(
    later: str | None,
) -> None:
    """As an adapter that is purged, or whose name another tenant takes."""
    owners: dict[VersionId, str | None] = {VersionId(1): "acme"}
    policy = CachePolicy(slots=1, host_capacity=2)
    index = TenantIndex(policy, owners.get)
    policy.learn_size(VersionId(1), 10)
    policy.prefetch(VersionId(1))
    settle(policy)
    assert index.bytes_of("acme") == 10
    owners[VersionId(1)] = later
    policy.evict(VersionId(1))
    policy.advance()
    assert index.bytes_of("acme") == 0
    assert index.tenants() == []
