"""Property test of the cache policy against a plain model: lists, linear scans, no cleverness."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from unittest import TestCase

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from engine.errors import (
    AdapterInUse,
    AdapterPinned,
    AdapterTooLarge,
    NotPinned,
    PinBudgetExceeded,
    PinBytesExceeded,
)
from engine.policy.decisions import Activate, Commit, Deactivate, Decision, Evict, Grant, StartLoad
from engine.policy.eviction_orders.base import EvictionKey, EvictionOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.policy import CachePolicy
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId

VERSIONS = st.integers(1, 6).map(VersionId)


class PlainOrder:
    """What a policy may ignore."""

    def foresee(self, version: VersionId, use: int | None) -> None:
        return

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        return

    def on_reorder(self, call: Callable[[], None]) -> None:
        return


class PlainLru(PlainOrder):
    """LRU as a list."""

    def __init__(self) -> None:
        self._versions: list[VersionId] = []

    def insert(self, version: VersionId) -> None:
        self._versions.append(version)

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._versions.remove(version)
        self._versions.append(version)

    def remove(self, version: VersionId) -> None:
        self._versions.remove(version)

    def clear(self) -> None:
        self._versions.clear()

    def key(self, version: VersionId) -> EvictionKey:
        return (self._versions.index(version),)

    def in_order(self) -> Iterator[VersionId]:
        return iter(list(self._versions))


@dataclass
class Model:
    """What must be true."""

    slots: int
    capacity: int
    budget: int
    sizes: dict[VersionId, int]
    order: EvictionOrder
    slot_order: EvictionOrder | None
    in_slots: set[VersionId] = field(default_factory=set)
    loading: list[VersionId] = field(default_factory=list)
    slow: set[VersionId] = field(default_factory=set)
    staged: list[VersionId] = field(default_factory=list)
    moving: list[Commit | Activate] = field(default_factory=list)
    leases: list[VersionId] = field(default_factory=list)
    waiting: list[tuple[int, VersionId]] = field(default_factory=list)
    pins: dict[VersionId, Tier] = field(default_factory=dict)
    drained: dict[VersionId, VersionId] = field(default_factory=dict)
    prefetch: list[VersionId] = field(default_factory=list)
    prefetched: dict[VersionId, int] = field(default_factory=dict)  # whose request has yet to come
    granted: list[VersionId] = field(default_factory=list)
    leaving: list[VersionId] = field(default_factory=list)

    @property
    def host(self) -> list[VersionId]:
        """In the eviction order."""
        self.foresee(self.order)
        return list(self.order.in_order())

    @property
    def gpu(self) -> list[VersionId]:
        """In the eviction order, or their own."""
        if self.slot_order is None:
            return [v for v in self.host if v in self.in_slots]
        self.foresee(self.slot_order)
        return list(self.slot_order.in_order())

    def foresee(self, order: EvictionOrder) -> None:
        for version in map(VersionId, range(1, 7)):
            expected = [t for v, t in self.prefetched.items() if v == version]
            uses = [t for t, v in self.waiting if v == version] + expected
            order.foresee(version, min(uses, default=None))

    def expect_until(self, ticket: int) -> None:
        """What was prefetched long ago isn't expected any more."""
        latest = ticket - max(self.capacity // 2, 1)
        self.prefetched = {v: t for v, t in self.prefetched.items() if t > latest}

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self.order.touch(version, granted=granted)
        if self.slot_order is not None:
            self.slot_order.touch(version, granted=granted)

    def enter_slot(self, version: VersionId) -> None:
        self.in_slots.add(version)
        if self.slot_order is not None:
            self.slot_order.insert(version)

    def leave_slot(self, version: VersionId) -> None:
        self.in_slots.discard(version)
        if self.slot_order is not None:
            self.slot_order.remove(version)

    def is_moving(self, version: VersionId) -> bool:
        return any(move.version == version for move in self.moving)

    def is_waited_for(self, version: VersionId) -> bool:
        return any(v == version for _, v in self.waiting)

    def fits(self, entering: list[VersionId], leaving: list[VersionId]) -> bool:
        then = [v for v in self.host if v not in leaving] + entering
        return len(then) <= self.capacity and sum(self.sizes[v] for v in then) <= self.budget

    def leave_for(self, entering: VersionId) -> list[VersionId] | None:
        """The victims in the host tier, in this order; None if there is no room to be made."""
        order = self.host_victims()
        enough = (order[:n] for n in range(len(order) + 1) if self.fits([entering], order[:n]))
        return next(enough, None)

    def host_victims(self) -> list[VersionId]:
        """What may leave the host tier, the one that must leave first at the front."""
        settled = [v for v in self.host if not self.is_moving(v) and v not in self.pins]
        outside = [v for v in settled if v not in self.gpu and not self.is_waited_for(v)]
        idle = [v for v in self.gpu if v in settled and v not in self.leases]
        leaving = [v for v in idle if not self.is_waited_for(v) or self.leaves_host(v)]
        held_up = self.held_up() if any(map(self.leaves_host, leaving)) else []
        return outside + leaving + held_up

    def held_up(self) -> list[VersionId]:
        """They wait for a slot, and occupy bytes of one that was promised a place before them."""
        outside = [v for v in self.host if v not in self.gpu and not self.is_moving(v)]
        return [v for v in outside if self.is_waited_for(v) and v not in self.pins]

    def next_to_commit(self, rank: Callable[[VersionId], object]) -> VersionId | None:
        """The first staged one; while no adapter drains for it, the first that fits."""
        in_order = sorted(self.staged, key=rank)  # type: ignore[arg-type]  # tuples
        if any(map(self.leaves_host, self.drained)):
            in_order = in_order[:1]
        return next((v for v in in_order if self.leave_for(v) is not None), None)

    def leaves_host(self, version: VersionId) -> bool:
        return version in self.drained and self.drained[version] not in self.host

    def slot_victims(self, wanted_by: VersionId) -> list[VersionId]:
        return [
            v
            for v in self.gpu
            if v not in self.leases
            and not self.is_moving(v)
            and self.pins.get(v) is not Tier.GPU
            and self.drained.get(v, wanted_by) == wanted_by
        ]

    def waits_for_slot(self) -> list[VersionId]:
        """In host memory only; in order of arrival."""
        ready = [v for _, v in self.waiting if v in self.host and v not in self.gpu]
        return [v for v in ready if not self.is_moving(v) and v not in self.leaving]

    def who_drains_for(self, version: VersionId) -> VersionId | None:
        """The hot adapter that was granted longest ago."""
        hot = [v for v in self.gpu if v in self.leases and v not in self.drained]
        hot = [v for v in hot if not self.is_moving(v)]
        for_it = [v for v, cold in self.drained.items() if cold == version]
        if version in self.waits_for_slot():
            hot = [v for v in hot if self.pins.get(v) is not Tier.GPU and not for_it]
        elif version not in self.host + self.loading:
            hot = [v for v in hot if v not in self.pins]
            leaving = for_it or [v for v in self.drained if self.leaves_host(v)]
            entering = [version] if for_it else self.staged
            held_up = self.held_up() if leaving else []
            if self.fits(entering, leaving + self.host_victims() + held_up):
                return None
        else:
            return None
        return next((v for v in self.granted if v in hot), None)

    def grantable(self) -> list[VersionId]:
        ready = [v for _, v in self.waiting if v in self.gpu and v not in self.drained]
        return [v for v in ready if not self.is_moving(v) and v not in self.leaving]

    def evictable_on_request(self) -> list[VersionId]:
        """To be evicted by request, and no lease holds them any more."""
        settled = [v for v in self.leaving if v in self.host and not self.is_moving(v)]
        return [v for v in settled if v not in self.leases]

    def loadable(self) -> list[VersionId]:
        """In the order in which their loads have to begin."""
        known = self.host + self.loading + self.staged
        return [v for v in [*(v for _, v in self.waiting), *self.prefetch] if v not in known]


class PolicyMachine(RuleBasedStateMachine):
    """Random histories; the model judges every decision before it follows it.

    The model has a separate eviction order, which only the model updates.
    """

    new_order: Callable[[], EvictionOrder] = LruOrder
    new_model_order: Callable[[], EvictionOrder] = PlainLru
    own_slot_order = False

    @initialize(
        slots=st.integers(1, 3),
        extra=st.integers(0, 2),
        loads=st.integers(1, 3),
        sizes=st.lists(st.integers(1, 4), min_size=6, max_size=6),
        budget=st.none() | st.integers(2, 9),
    )
    def start(
        self, slots: int, extra: int, loads: int, sizes: list[int], budget: int | None
    ) -> None:
        self.policy = CachePolicy(
            slots=slots,
            host_capacity=slots + extra,
            host_bytes=budget,
            max_loads=loads,
            eviction_order=self.new_order(),
            slot_order=self.new_order() if self.own_slot_order else None,
        )
        size_of = {VersionId(n): size for n, size in enumerate(sizes, start=1)}
        order = self.new_model_order()
        own = self.new_model_order() if self.own_slot_order else None
        self.model = Model(slots, slots + extra, budget or 1000, size_of, order, own)
        self.max_loads = loads
        self.next_ticket = 1
        self.load_order: list[VersionId] = []
        self.making_room: list[VersionId] = []
        self.entering: VersionId | None = None
        self.expected_outcome: dict[int, CacheOutcome] = {}

    # ---- what may happen -----------------------------------------------------------------

    def learn_size(self, version: VersionId) -> bool:
        """False if it is refused: it does not fit beside the pins."""
        m = self.model
        pinned = sum(m.sizes[v] for v in m.pins if v != version)
        if m.sizes[version] + pinned > m.budget:
            with pytest.raises(AdapterTooLarge):
                self.policy.learn_size(version, m.sizes[version])
            return False
        self.policy.learn_size(version, m.sizes[version])
        return True

    @rule(version=VERSIONS)
    def arrive(self, version: VersionId) -> None:
        m = self.model
        if not self.learn_size(version):
            return
        ticket, self.next_ticket = self.next_ticket, self.next_ticket + 1
        activating = any(isinstance(x, Activate) and x.version == version for x in m.moving)
        committing = any(isinstance(x, Commit) and x.version == version for x in m.moving)
        if version in m.gpu and not activating:
            self.expected_outcome[ticket] = CacheOutcome.GPU_HIT
        elif version in m.host and not committing:
            self.expected_outcome[ticket] = CacheOutcome.HOST_HIT
        else:
            self.expected_outcome[ticket] = CacheOutcome.MISS
        m.waiting.append((ticket, version))
        m.prefetched.pop(version, None)
        m.expect_until(ticket)
        self.policy.arrive(ticket, version)
        self.advance()

    @rule(version=VERSIONS)
    def try_lease(self, version: VersionId) -> None:
        """The same as if it had arrived and been granted, or nothing at all."""
        arrived = replace(self.model, waiting=[(0, version)])
        expected = version in arrived.grantable()
        assert self.policy.try_lease(version) == expected
        if expected:
            self.is_leased(version)
        self.nothing_more_could_be_done()

    def is_leased(self, version: VersionId) -> None:
        m = self.model
        m.leases.append(version)
        m.prefetched.pop(version, None)
        m.granted = [v for v in m.granted if v != version] + [version]
        m.touch(version, granted=True)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket, version = data.draw(st.sampled_from(self.model.waiting))
        self.model.waiting.remove((ticket, version))
        self.policy.cancel(ticket)
        self.end_drain_if_no_longer_wanted(version)
        self.advance()

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.model.leases))
        self.release_one(version)
        self.advance()

    def release_one(self, version: VersionId) -> None:
        self.model.leases.remove(version)
        self.model.touch(version, granted=False)
        self.policy.release(version)

    @precondition(lambda self: self.model.loading)
    @rule(data=st.data(), works=st.sampled_from([True, True, True, False]))
    def finish_load(self, data: st.DataObject, works: bool) -> None:
        version = data.draw(st.sampled_from(self.model.loading))
        self.model.loading.remove(version)
        self.model.slow.discard(version)
        if works:
            self.model.staged.append(version)
            self.policy.on_loaded(version, self.model.sizes[version])
        else:
            self.fail(version)
        self.advance()

    @precondition(lambda self: self.model.loading)
    @rule(data=st.data())
    def load_slowly(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.model.loading))
        self.model.slow.add(version)
        self.policy.on_slow_load(version)
        self.advance()

    @precondition(lambda self: self.model.moving)
    @rule(works=st.sampled_from([True, True, True, False]))
    def finish_move(self, works: bool) -> None:
        m = self.model
        move = m.moving.pop(0)
        if works:
            self.move_ends(move)
        else:
            if isinstance(move, Activate):
                m.leave_slot(move.version)
            else:
                m.order.remove(move.version)
            self.fail(move.version)
        self.advance()

    @rule()
    def settle(self) -> None:
        """All loads and moves finish: the interesting states are far apart otherwise."""
        while self.model.loading or self.model.moving:
            self.finish_one()
            self.advance()

    @rule(version=VERSIONS)
    def serve(self, version: VersionId) -> None:
        """A whole request, if it gets a slot: so that many adapters are idle in the tiers."""
        self.arrive(version)
        self.settle()
        if version in self.model.leases:
            self.release_one(version)
            self.advance()

    def finish_one(self) -> None:
        m = self.model
        if m.loading:
            version = m.loading.pop(0)
            m.slow.discard(version)
            m.staged.append(version)
            self.policy.on_loaded(version, m.sizes[version])
            return
        self.move_ends(m.moving.pop(0))

    def move_ends(self, move: Commit | Activate) -> None:
        self.policy.on_moved(move.version)
        if isinstance(move, Activate):
            self.end_drain_for(move.version)
        else:
            self.no_prefetch(move.version)

    def end_drain_for(self, version: VersionId) -> None:
        m = self.model
        m.drained = {hot: cold for hot, cold in m.drained.items() if cold != version}

    def no_prefetch(self, version: VersionId) -> None:
        self.model.prefetch = [v for v in self.model.prefetch if v != version]

    def fail(self, version: VersionId) -> None:
        m = self.model
        void = {ticket for ticket, v in m.waiting if v == version}
        m.waiting = [(t, v) for t, v in m.waiting if v != version]
        self.end_drain_for(version)
        self.no_prefetch(version)
        if version not in m.host:
            m.leaving = [v for v in m.leaving if v != version]
        assert set(self.policy.on_failed(version)) == void

    @rule(version=VERSIONS)
    def prefetch(self, version: VersionId) -> None:
        m = self.model
        if not self.learn_size(version):
            return
        if version not in m.host + m.loading + m.staged + m.prefetch:
            m.prefetch.append(version)
        if not m.is_waited_for(version):
            m.prefetched[version], self.next_ticket = self.next_ticket, self.next_ticket + 1
            m.expect_until(m.prefetched[version])
        self.policy.prefetch(version)
        self.advance()

    @rule(version=VERSIONS, tier=st.sampled_from(Tier))
    def pin(self, version: VersionId, tier: Tier) -> None:
        m = self.model
        if not self.learn_size(version):
            return
        others = {v: t for v, t in m.pins.items() if v != version}
        too_many = len(others) >= m.capacity - 1
        if tier is Tier.GPU:
            too_many = too_many or list(others.values()).count(Tier.GPU) >= m.slots - 1
        pinned = {*others, version}
        there = {*m.host, *m.loading, *m.staged, *m.prefetch, *(v for _, v in m.waiting)}
        largest = max((m.sizes[v] for v in there - pinned), default=0)
        too_large = sum(m.sizes[v] for v in pinned) + largest > m.budget
        if too_many or too_large:
            with pytest.raises(PinBudgetExceeded if too_many else PinBytesExceeded):
                self.policy.pin(version, tier)
        else:
            self.policy.pin(version, tier)
            m.pins[version] = tier
            m.drained.pop(version, None)
            m.leaving = [v for v in m.leaving if v != version]
        self.advance()

    @rule(version=VERSIONS)
    def unpin(self, version: VersionId) -> None:
        if version in self.model.pins:
            assert self.policy.pins.remove(version) is self.model.pins.pop(version)
        else:
            with pytest.raises(NotPinned):
                self.policy.pins.remove(version)
        self.advance()

    @rule(version=VERSIONS, when_idle=st.booleans())
    def evict(self, version: VersionId, when_idle: bool) -> None:
        m = self.model
        on_its_way = version in m.loading or version in m.staged or m.is_moving(version)
        present = version in m.host or on_its_way
        in_use = on_its_way or (present and (version in m.leases or m.is_waited_for(version)))
        if version in m.pins:
            with pytest.raises(AdapterPinned):
                self.policy.evict(version, when_idle=when_idle)
        elif in_use and not when_idle:
            with pytest.raises(AdapterInUse):
                self.policy.evict(version)
        else:
            self.policy.evict(version, when_idle=when_idle)
            if present and version not in m.leaving:
                m.leaving.append(version)
            if present:
                self.no_prefetch(version)
        self.advance()

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def lose_patience(self, data: st.DataObject) -> None:
        m = self.model
        ticket, version = data.draw(st.sampled_from(m.waiting))
        self.drain_for(ticket, version)
        self.advance()

    @rule()
    def lose_all_patience(self) -> None:
        for ticket, version in self.model.waiting:
            self.drain_for(ticket, version)
        self.advance()

    def drain_for(self, ticket: int, version: VersionId) -> None:
        chosen = self.model.who_drains_for(version)
        assert self.policy.drain_for(ticket) == chosen
        if chosen is not None:
            self.model.drained[chosen] = version

    # ---- what the policy decides ---------------------------------------------------------

    def advance(self) -> None:
        while decisions := self.policy.advance():
            for decision in decisions:
                self.judge(decision)
        self.nothing_more_could_be_done()

    def nothing_more_could_be_done(self) -> None:
        m = self.model
        assert not m.evictable_on_request(), "it was to be evicted, and could have been"
        assert not m.grantable(), "a waiter whose adapter is in a slot got no grant"
        most, most_outside = self.most_loads()
        if len(m.loading) < most and len(m.loading) + len(m.staged) < most_outside:
            assert not m.loadable(), "a load could have begun"
        assert m.next_to_commit(self.commit_rank) is None, "room could have been made in host"
        if m.waits_for_slot():
            assert len(m.gpu) == m.slots, "there was a free slot"
            assert not any(map(m.slot_victims, m.waits_for_slot())), "a slot could be had"

    def most_loads(self) -> tuple[int, int]:
        """That run, and with those that are staged."""
        m = self.model
        most = self.max_loads + len(m.slow)
        return most, most + (self.max_loads if m.budget < 1000 else 0)

    def commit_rank(self, version: VersionId) -> tuple[bool, int]:
        """Of those that are staged: those with waiters first, then by when their loads began."""
        return not self.model.is_waited_for(version), self.load_order.index(version)

    def judge(self, decision: Decision) -> None:
        m = self.model
        match decision:
            case Grant(ticket, version, outcome):
                assert version == m.grantable()[0]
                first = next(t for t, v in m.waiting if v == version)
                assert ticket == first, "overtaken by a later request for the same adapter"
                assert outcome is self.expected_outcome[ticket]
                m.waiting.remove((ticket, version))
                self.is_leased(version)
            case StartLoad(version):
                assert version == m.loadable()[0]
                m.loading.append(version)
                self.load_order = [v for v in self.load_order if v != version] + [version]
                most, most_outside = self.most_loads()
                assert len(m.loading) <= most
                assert len(m.loading) + len(m.staged) <= most_outside
            case Commit(version):
                if self.entering is None:
                    assert version == m.next_to_commit(self.commit_rank), "staged first, in first"
                else:
                    assert version == self.entering, "the victims left for another one"
                self.entering = None
                m.staged.remove(version)
                assert not self.making_room, "not all victims have left"
                assert m.fits([version], [])
                m.order.insert(version)
                m.moving.append(decision)
            case Activate(version):
                assert version in m.waits_for_slot()
                assert len(m.gpu) < m.slots
                m.enter_slot(version)
                m.moving.append(decision)
            case Deactivate(version, reason):
                assert reason is EvictionReason.CAPACITY
                assert len(m.gpu) == m.slots, "a slot was taken while another was free"
                assert version == self.victim_of_the_first_who_finds_one()
                m.leave_slot(version)
                m.drained.pop(version, None)
                self.expect_at_most(CacheOutcome.HOST_HIT, version)
            case Evict(version, EvictionReason.REQUESTED, left_slot):
                assert version == m.evictable_on_request()[0]
                assert left_slot == (version in m.gpu)
                self.leave_host(version)
            case Evict(version, reason, left_slot):
                assert reason is EvictionReason.CAPACITY
                if self.entering is None:
                    self.entering = m.next_to_commit(self.commit_rank)
                    assert self.entering is not None
                    self.making_room = m.leave_for(self.entering) or []
                assert self.making_room
                assert version == self.making_room.pop(0)
                assert left_slot == (version in m.gpu)
                self.leave_host(version)

    def victim_of_the_first_who_finds_one(self) -> VersionId:
        m = self.model
        return next(victims[0] for v in m.waits_for_slot() if (victims := m.slot_victims(v)))

    def leave_host(self, version: VersionId) -> None:
        self.model.order.remove(version)
        self.model.leave_slot(version)
        self.model.drained.pop(version, None)
        self.end_drain_for(version)
        self.model.leaving = [v for v in self.model.leaving if v != version]
        self.expect_at_most(CacheOutcome.MISS, version)

    def expect_at_most(self, outcome: CacheOutcome, version: VersionId) -> None:
        for ticket, v in self.model.waiting:
            if v == version and self.expected_outcome[ticket] is not CacheOutcome.MISS:
                self.expected_outcome[ticket] = outcome

    def end_drain_if_no_longer_wanted(self, version: VersionId) -> None:
        m = self.model
        if not m.is_waited_for(version):
            self.end_drain_for(version)

    # ---- what always holds ---------------------------------------------------------------

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "policy"):
            return
        self.policy.check()
        residency = self.policy.residency()
        assert list(residency.host) == self.model.host
        assert list(residency.gpu) == self.model.gpu
        on_their_way = [*self.model.loading, *self.model.staged]
        assert set(self.policy.held()) == {*self.model.host, *on_their_way}
        assert set(self.model.leases) <= set(residency.gpu)
        for version in self.model.host:
            assert self.policy.lease_count(version) == self.model.leases.count(version)

    def teardown(self) -> None:
        """Let everything finish: then no request may be left waiting."""
        if not hasattr(self, "policy"):
            return
        m = self.model
        for _ in range(1000):
            if not (m.waiting or m.loading or m.moving or m.leases):
                return
            if m.loading or m.moving:
                self.finish_one()
            elif m.leases:
                self.release_one(m.leases[0])
            else:
                self.advance()
                assert m.loading or m.moving or m.leases, f"stuck: {m.waiting} wait forever"
            self.advance()
        raise AssertionError("it never ends")


def policy_test(
    new_order: Callable[[], EvictionOrder],
    new_model_order: Callable[[], EvictionOrder],
    *,
    examples: int,
    own_slot_order: bool = False,
) -> type[TestCase]:
    """The property test of a policy with this eviction order, for pytest to collect.

    `own_slot_order`: the slots have another one of the same kind.
    """
    orders = {
        "own_slot_order": own_slot_order,
        "new_order": staticmethod(new_order),
        "new_model_order": staticmethod(new_model_order),
    }
    case: type[TestCase] = type("Machine", (PolicyMachine,), orders).TestCase  # type: ignore[attr-defined]  # hypothesis adds it
    case.settings = settings(max_examples=examples, stateful_step_count=50)  # type: ignore[attr-defined]  # hypothesis reads it
    return case
