"""The cache policy against a plain model: lists, linear scans, no cleverness."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from engine.decisions import Activate, Commit, Deactivate, Decision, Evict, Grant, StartLoad
from engine.errors import AdapterInUse, AdapterPinned, NotPinned, PinBudgetExceeded
from engine.policy import CachePolicy
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId

VERSIONS = st.integers(1, 6).map(VersionId)


@dataclass
class Model:
    """What must be true, kept by hand. Lists are in LRU order."""

    slots: int
    capacity: int
    host: list[VersionId] = field(default_factory=list)
    gpu: list[VersionId] = field(default_factory=list)
    loading: list[VersionId] = field(default_factory=list)
    staged: list[VersionId] = field(default_factory=list)
    moving: list[Commit | Activate] = field(default_factory=list)
    leases: list[VersionId] = field(default_factory=list)
    waiting: list[tuple[int, VersionId]] = field(default_factory=list)
    pins: dict[VersionId, Tier] = field(default_factory=dict)
    drained: dict[VersionId, VersionId] = field(default_factory=dict)

    def is_moving(self, version: VersionId) -> bool:
        return any(move.version == version for move in self.moving)

    def is_awaited(self, version: VersionId) -> bool:
        return any(v == version for _, v in self.waiting)

    def touch(self, version: VersionId) -> None:
        for tier in (self.host, self.gpu):
            if version in tier:
                tier.remove(version)
                tier.append(version)

    def host_victims(self) -> list[VersionId]:
        """Who may leave the host tier, the one that must go first at the front."""
        free = [
            v
            for v in self.host
            if not self.is_moving(v) and v not in self.pins and not self.is_awaited(v)
        ]
        outside = [v for v in free if v not in self.gpu]
        return outside + [v for v in free if v in self.gpu and v not in self.leases]

    def slot_victims(self, wanted_by: VersionId) -> list[VersionId]:
        return [
            v
            for v in self.gpu
            if v not in self.leases
            and not self.is_moving(v)
            and self.pins.get(v) is not Tier.GPU
            and self.drained.get(v, wanted_by) == wanted_by
        ]


class PolicyMachine(RuleBasedStateMachine):
    """Random histories; every decision is judged by the model before it is believed."""

    leased = Bundle("leased")

    @initialize(slots=st.integers(1, 3), extra=st.integers(0, 2), loads=st.integers(1, 3))
    def start(self, slots: int, extra: int, loads: int) -> None:
        self.policy = CachePolicy(slots=slots, host_capacity=slots + extra, max_loads=loads)
        self.model = Model(slots, slots + extra)
        self.max_loads = loads
        self.next_ticket = 1
        self.expected_outcome: dict[int, CacheOutcome] = {}

    # ---- what may happen -----------------------------------------------------------------

    @rule(target=leased, version=VERSIONS)
    def arrive(self, version: VersionId) -> object:
        m = self.model
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
        self.policy.arrive(ticket, version)
        return multiple(*self.advance())

    @precondition(lambda self: self.model.waiting)
    @rule(target=leased, data=st.data())
    def cancel(self, data: st.DataObject) -> object:
        ticket, version = data.draw(st.sampled_from(self.model.waiting))
        self.model.waiting.remove((ticket, version))
        self.policy.cancel(ticket)
        self.end_drain_if_nobody_waits(version)
        return multiple(*self.advance())

    @rule(target=leased, version=consumes(leased))
    def release(self, version: VersionId) -> object:
        self.model.leases.remove(version)
        self.model.touch(version)
        self.policy.release(version)
        return multiple(*self.advance())

    @precondition(lambda self: self.model.loading)
    @rule(target=leased, data=st.data(), works=st.sampled_from([True, True, True, False]))
    def finish_load(self, data: st.DataObject, works: bool) -> object:
        version = data.draw(st.sampled_from(self.model.loading))
        self.model.loading.remove(version)
        if works:
            self.model.staged.append(version)
            self.policy.loaded(version)
        else:
            self.fail(version)
        return multiple(*self.advance())

    @precondition(lambda self: self.model.moving)
    @rule(target=leased, works=st.sampled_from([True, True, True, False]))
    def finish_move(self, works: bool) -> object:
        m = self.model
        move = m.moving.pop(0)
        if works:
            self.policy.moved(move.version)
            if isinstance(move, Activate):
                m.drained = {h: c for h, c in m.drained.items() if c != move.version}
        else:
            tier = m.gpu if isinstance(move, Activate) else m.host
            tier.remove(move.version)
            self.fail(move.version)
        return multiple(*self.advance())

    @rule(target=leased)
    def settle(self) -> object:
        """All loads and moves come to an end: the interesting states are far apart otherwise."""
        granted: list[VersionId] = []
        while self.model.loading or self.model.moving:
            self.finish_one()
            granted += self.advance()
        return multiple(*granted)

    def finish_one(self) -> None:
        m = self.model
        if m.loading:
            version = m.loading.pop(0)
            m.staged.append(version)
            self.policy.loaded(version)
            return
        move = m.moving.pop(0)
        self.policy.moved(move.version)
        if isinstance(move, Activate):
            m.drained = {h: c for h, c in m.drained.items() if c != move.version}

    def fail(self, version: VersionId) -> None:
        m = self.model
        void = {ticket for ticket, v in m.waiting if v == version}
        m.waiting = [(t, v) for t, v in m.waiting if v != version]
        m.drained = {h: c for h, c in m.drained.items() if c != version}
        assert set(self.policy.failed(version)) == void

    @rule(target=leased, version=VERSIONS)
    def prefetch(self, version: VersionId) -> object:
        self.policy.prefetch(version)
        return multiple(*self.advance())

    @rule(target=leased, version=VERSIONS, tier=st.sampled_from(Tier))
    def pin(self, version: VersionId, tier: Tier) -> object:
        m = self.model
        others = [t for v, t in m.pins.items() if v != version]
        too_many = len(others) >= m.capacity - 1
        if tier is Tier.GPU:
            too_many = too_many or others.count(Tier.GPU) >= m.slots - 1
        if too_many:
            with pytest.raises(PinBudgetExceeded):
                self.policy.pin(version, tier)
        else:
            self.policy.pin(version, tier)
            m.pins[version] = tier
            if tier is Tier.GPU:
                m.drained.pop(version, None)
        return multiple(*self.advance())

    @rule(target=leased, version=VERSIONS)
    def unpin(self, version: VersionId) -> object:
        if version in self.model.pins:
            assert self.policy.pins.remove(version) is self.model.pins.pop(version)
        else:
            with pytest.raises(NotPinned):
                self.policy.pins.remove(version)
        return multiple(*self.advance())

    @rule(target=leased, version=VERSIONS)
    def evict(self, version: VersionId) -> object:
        m = self.model
        on_its_way = version in m.loading or version in m.staged or m.is_moving(version)
        present = version in m.host or on_its_way
        if version in m.pins:
            with pytest.raises(AdapterPinned):
                self.policy.evict(version)
        elif on_its_way or (present and (version in m.leases or m.is_awaited(version))):
            with pytest.raises(AdapterInUse):
                self.policy.evict(version)
        else:
            decisions = self.policy.evict(version)
            wanted = [Evict(version, EvictionReason.REQUESTED, version in m.gpu)] if present else []
            assert decisions == wanted
            if present:
                self.leave_host(version)
        return multiple(*self.advance())

    @precondition(lambda self: self.model.waiting)
    @rule(target=leased, data=st.data())
    def lose_patience(self, data: st.DataObject) -> object:
        m = self.model
        ticket, version = data.draw(st.sampled_from(m.waiting))
        chosen = self.policy.drain_for(ticket)
        hot = [v for v in m.leases if v not in m.drained and m.pins.get(v) is not Tier.GPU]
        loaded = version in m.host and version not in m.gpu and not m.is_moving(version)
        if not loaded or version in m.drained.values() or not hot:
            assert chosen is None
        else:
            assert chosen in hot
            assert m.leases.count(chosen) == min(m.leases.count(v) for v in hot)
            m.drained[chosen] = version
        return multiple(*self.advance())

    # ---- what the policy decides ---------------------------------------------------------

    def advance(self) -> list[VersionId]:
        granted: list[VersionId] = []
        while decisions := self.policy.advance():
            for decision in decisions:
                self.judge(decision, granted)
        return granted

    def judge(self, decision: Decision, granted: list[VersionId]) -> None:
        m = self.model
        match decision:
            case Grant(ticket, version, outcome):
                assert version in m.gpu
                assert not m.is_moving(version)
                assert version not in m.drained
                first = next(t for t, v in m.waiting if v == version)
                assert ticket == first, "overtaken by a later request for the same adapter"
                assert outcome is self.expected_outcome[ticket]
                m.waiting.remove((ticket, version))
                m.leases.append(version)
                m.touch(version)
                granted.append(version)
            case StartLoad(version):
                assert version not in m.host + m.loading + m.staged, "loaded twice"
                m.loading.append(version)
                assert len(m.loading) + len(m.staged) <= self.max_loads
            case Commit(version):
                m.staged.remove(version)
                assert len(m.host) < m.capacity
                m.host.append(version)
                m.moving.append(decision)
            case Activate(version):
                assert version in m.host
                assert version not in m.gpu
                assert not m.is_moving(version)
                assert m.is_awaited(version)
                assert len(m.gpu) < m.slots
                m.gpu.append(version)
                self.sort_gpu_by_recency()
                m.moving.append(decision)
            case Deactivate(version, reason):
                assert reason is EvictionReason.CAPACITY
                assert len(m.gpu) == m.slots, "a slot was taken while another was free"
                wanted_by = self.longest_waiting_for_slot(version)
                assert version == m.slot_victims(wanted_by)[0]
                m.gpu.remove(version)
                m.drained.pop(version, None)
                for ticket, v in m.waiting:
                    if v == version and self.expected_outcome[ticket] is CacheOutcome.GPU_HIT:
                        self.expected_outcome[ticket] = CacheOutcome.HOST_HIT
            case Evict(version, reason, left_slot):
                assert reason is EvictionReason.CAPACITY
                assert len(m.host) == m.capacity
                assert version == m.host_victims()[0]
                assert left_slot == (version in m.gpu)
                self.leave_host(version)

    def longest_waiting_for_slot(self, victim: VersionId) -> VersionId:
        """The first in line whom the victim's slot may go to."""
        m = self.model
        for _, version in m.waiting:
            ready = version in m.host and version not in m.gpu and not m.is_moving(version)
            if ready and victim in m.slot_victims(version):
                return version
        raise AssertionError(f"nobody may take {victim}'s slot")

    def sort_gpu_by_recency(self) -> None:
        self.model.gpu.sort(key=self.model.host.index)

    def leave_host(self, version: VersionId) -> None:
        self.model.host.remove(version)
        if version in self.model.gpu:
            self.model.gpu.remove(version)
        self.model.drained.pop(version, None)

    def end_drain_if_nobody_waits(self, version: VersionId) -> None:
        m = self.model
        if not m.is_awaited(version):
            m.drained = {h: c for h, c in m.drained.items() if c != version}

    # ---- what always holds ---------------------------------------------------------------

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "policy"):
            return
        self.policy.check()
        residency = self.policy.residency()
        assert list(residency.host) == self.model.host
        assert list(residency.gpu) == self.model.gpu
        assert set(self.model.leases) <= set(residency.gpu)
        for version in self.model.host:
            assert self.policy.leases(version) == self.model.leases.count(version)

    def teardown(self) -> None:
        """Let everything come to an end: then nobody may be left waiting."""
        if not hasattr(self, "policy"):
            return
        m = self.model
        for _ in range(1000):
            if not (m.waiting or m.loading or m.moving or m.leases):
                return
            if m.loading or m.moving:
                self.finish_one()
            elif m.leases:
                version = m.leases.pop(0)
                m.touch(version)
                self.policy.release(version)
            else:
                self.advance()
                assert m.loading or m.moving or m.leases, f"stuck: {m.waiting} wait for ever"
            self.advance()
        raise AssertionError("no end in sight")


TestPolicy = PolicyMachine.TestCase
TestPolicy.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


def test_capacities_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="capacities"):
        CachePolicy(slots=0, host_capacity=1)
    with pytest.raises(ValueError, match="capacities"):
        CachePolicy(slots=2, host_capacity=1)
