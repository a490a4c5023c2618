"""Each rule of the cache policy once, by example; every load and move succeeds immediately."""

import itertools

import pytest

from engine.errors import AdapterInUse, AdapterPinned, AdapterTooLarge, PinBudgetExceeded
from engine.policy.decisions import Activate, Commit, Deactivate, Decision, Evict, Grant, StartLoad
from engine.policy.planner import MOST_SLOW_LOADS
from engine.policy.policy import CachePolicy
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId

A, B, C, D = (VersionId(n) for n in (1, 2, 3, 4))


class Cache:
    """A policy whose decisions are executed immediately; logs them."""

    def __init__(
        self, *, slots: int, host: int, max_loads: int = 2, host_bytes: int | None = None
    ) -> None:
        self.policy = CachePolicy(
            slots=slots, host_capacity=host, host_bytes=host_bytes, max_loads=max_loads
        )
        self.sizes: dict[VersionId, int] = {}
        self.log: list[Decision] = []
        self._tickets = itertools.count(1)

    def ask(self, version: VersionId) -> int:
        ticket = next(self._tickets)
        self.policy.arrive(ticket, version)
        self.advance()
        return ticket

    def use(self, *versions: VersionId) -> None:
        for version in versions:
            self.ask(version)
            self.release(version)

    def release(self, version: VersionId) -> None:
        self.policy.release(version)
        self.advance()

    def cancel(self, ticket: int) -> None:
        self.policy.cancel(ticket)
        self.advance()

    def drain_for(self, ticket: int) -> VersionId | None:
        chosen = self.policy.drain_for(ticket)
        self.advance()
        return chosen

    def pin(self, version: VersionId, tier: Tier) -> None:
        self.policy.pin(version, tier)
        self.advance()

    def advance(self) -> None:
        while decisions := self.policy.advance():
            for decision in decisions:
                self.log.append(decision)
                match decision:
                    case StartLoad(version):
                        self.policy.on_loaded(version, self.sizes.get(version, 0))
                    case Commit(version) | Activate(version):
                        self.policy.on_moved(version)
            self.policy.check()

    def outcome(self, ticket: int) -> CacheOutcome | None:
        """The outcome of the request's grant, or None if it still waits."""
        grants = [d for d in self.log if isinstance(d, Grant) and d.ticket == ticket]
        return grants[0].outcome if grants else None

    @property
    def gpu(self) -> tuple[VersionId, ...]:
        return self.policy.residency().gpu

    @property
    def host(self) -> tuple[VersionId, ...]:
        return self.policy.residency().host


# ---- victims -----------------------------------------------------------------------------


def test_the_slot_of_the_least_recently_used_is_taken() -> None:
    cache = Cache(slots=2, host=4)
    cache.use(A, B, A, C)
    assert cache.gpu == (A, C)
    assert cache.host == (B, A, C)
    assert Deactivate(B, EvictionReason.CAPACITY, room_for=C) in cache.log


def test_the_host_place_of_the_least_recently_used_is_taken() -> None:
    cache = Cache(slots=1, host=3)
    cache.use(A, B, A, C, D)
    assert cache.host == (A, C, D)


def test_one_in_no_slot_leaves_host_memory_before_an_older_one_in_a_slot() -> None:
    cache = Cache(slots=2, host=3)
    cache.use(A, B)
    cache.policy.prefetch(C)  # younger than A and B, but in no slot
    cache.advance()
    cache.use(D)
    assert Evict(C, EvictionReason.CAPACITY, left_slot=False, room_for=D) in cache.log


def test_a_grant_counts_as_a_use() -> None:
    cache = Cache(slots=2, host=2)
    cache.use(A, B)
    cache.ask(A)
    assert cache.gpu == (B, A)


def test_the_end_of_a_request_counts_as_a_use() -> None:
    cache = Cache(slots=2, host=2)
    cache.ask(A)
    cache.use(B)
    cache.release(A)
    assert cache.gpu == (B, A)


def test_a_leased_adapter_leaves_neither_tier() -> None:
    cache = Cache(slots=1, host=1)
    cache.ask(A)
    waiting = cache.ask(B)
    assert cache.gpu == cache.host == (A,)
    cache.release(A)
    assert cache.outcome(waiting) is CacheOutcome.MISS


def test_an_adapter_that_is_waited_for_keeps_its_host_place() -> None:
    cache = Cache(slots=1, host=2)
    cache.ask(A)
    cache.ask(B)
    cache.ask(C)
    assert cache.host == (A, B)


@pytest.mark.parametrize("tier", Tier)
def test_a_pinned_adapter_stays_in_host_memory(tier: Tier) -> None:
    cache = Cache(slots=2, host=2)
    cache.use(A)
    cache.pin(A, tier)
    cache.use(B, C, D, B)
    assert cache.host == cache.gpu == (A, B)


def test_an_adapter_pinned_in_its_slot_keeps_it() -> None:
    cache = Cache(slots=2, host=4)
    cache.use(A)
    cache.pin(A, Tier.GPU)
    cache.use(B, C, D)
    assert cache.gpu == (A, D)


def test_a_pin_in_host_memory_does_not_keep_the_slot() -> None:
    cache = Cache(slots=1, host=2)
    cache.use(A)
    cache.pin(A, Tier.HOST)
    cache.use(B)
    assert cache.gpu == (B,)
    assert cache.host == (A, B)


# ---- the budget of pins ------------------------------------------------------------------


def test_one_slot_and_one_host_place_can_not_be_pinned() -> None:
    cache = Cache(slots=3, host=4)
    cache.pin(A, Tier.GPU)
    cache.pin(B, Tier.GPU)
    with pytest.raises(PinBudgetExceeded):
        cache.pin(C, Tier.GPU)
    cache.pin(C, Tier.HOST)
    with pytest.raises(PinBudgetExceeded):
        cache.pin(D, Tier.HOST)


# ---- eviction on request -----------------------------------------------------------------


def test_what_is_in_use_or_pinned_is_not_evicted_on_request() -> None:
    cache = Cache(slots=1, host=3)
    cache.ask(A)
    cache.ask(B)  # waits in host memory
    for version in (A, B):
        with pytest.raises(AdapterInUse):
            cache.policy.evict(version)
    cache.policy.arrive(99, C)
    assert cache.policy.advance() == [StartLoad(C)]
    cache.policy.cancel(99)
    with pytest.raises(AdapterInUse):  # no request waits for it, but it is being loaded
        cache.policy.evict(C)
    cache.pin(D, Tier.HOST)
    with pytest.raises(AdapterPinned):
        cache.policy.evict(D)


def test_an_eviction_that_waits_for_a_load_ends_with_that() -> None:
    """Else the next one to ask would find it evicted as soon as it is loaded."""
    cache = Cache(slots=1, host=2)
    cache.policy.arrive(99, A)
    assert cache.policy.advance() == [StartLoad(A)]
    cache.policy.evict(A, when_idle=True)
    assert cache.policy.on_failed(A) == [99]
    assert cache.outcome(cache.ask(A)) is CacheOutcome.MISS
    assert not any(isinstance(decision, Evict) for decision in cache.log)


# ---- loads -------------------------------------------------------------------------------


def test_no_more_concurrent_loads_than_allowed() -> None:
    policy = CachePolicy(slots=3, host_capacity=3, max_loads=2)
    for version in (A, B, C):
        policy.arrive(version, version)
    assert policy.advance() == [StartLoad(A), StartLoad(B)]
    policy.on_loaded(A)
    assert policy.advance() == [Commit(A)]
    assert policy.advance() == [StartLoad(C)]


def test_slow_loads_leave_their_places_to_others_but_not_without_end() -> None:
    policy = CachePolicy(slots=3, host_capacity=3, max_loads=2)
    for n in range(1, 31):
        policy.arrive(n, VersionId(n))
    loading = [each.version for each in policy.advance() if isinstance(each, StartLoad)]
    assert loading == [1, 2]
    for version in range(1, 31):
        policy.on_slow_load(VersionId(version))
        loading += [each.version for each in policy.advance() if isinstance(each, StartLoad)]
    assert loading == list(range(1, 3 + MOST_SLOW_LOADS))
    policy.on_failed(VersionId(1))
    assert policy.advance() == [StartLoad(VersionId(3 + MOST_SLOW_LOADS))]
    policy.check()


def test_a_failed_load_makes_its_waiters_void_and_leaves_nothing() -> None:
    policy = CachePolicy(slots=1, host_capacity=1)
    policy.arrive(1, A)
    policy.arrive(2, A)
    assert policy.advance() == [StartLoad(A)]
    assert policy.on_failed(A) == [1, 2]
    assert len(policy.wait_queue) == 0
    assert policy.in_transit() == ()
    policy.arrive(3, A)
    assert policy.advance() == [StartLoad(A)]


def test_a_failed_commit_frees_its_host_place() -> None:
    policy = CachePolicy(slots=1, host_capacity=1)
    policy.arrive(1, A)
    policy.advance()
    policy.on_loaded(A)
    assert policy.advance() == [Commit(A)]
    assert policy.on_failed(A) == [1]
    assert policy.residency().host == ()


def test_one_that_is_just_entering_its_slot_was_found_in_host_memory() -> None:
    policy = CachePolicy(slots=1, host_capacity=1)
    policy.arrive(1, A)
    policy.advance()
    policy.on_loaded(A)
    assert policy.advance() == [Commit(A)]
    policy.on_moved(A)
    assert policy.advance() == [Activate(A)]
    policy.arrive(2, A)
    policy.on_moved(A)
    assert policy.advance() == [Grant(1, A, CacheOutcome.MISS), Grant(2, A, CacheOutcome.HOST_HIT)]


# ---- sizes -------------------------------------------------------------------------------


def test_the_size_that_a_load_has_shown_is_not_forgotten_for_that_of_the_files() -> None:
    cache = Cache(slots=1, host=2, host_bytes=10)
    cache.policy.learn_size(A, 3)
    cache.sizes = {A: 7}
    cache.use(A)
    cache.policy.learn_size(A, 3)
    assert cache.policy.size_of(A) == 7


def test_one_in_memory_is_served_beside_pins_that_turned_out_larger() -> None:
    cache = Cache(slots=2, host=2, host_bytes=4)
    cache.sizes = {A: 3, B: 2}
    cache.ask(B)
    cache.policy.learn_size(A, 1)
    cache.pin(A, Tier.HOST)
    cache.ask(A)  # takes three, and waits for room
    cache.policy.learn_size(B, 2)
    assert cache.policy.try_lease(B)
    with pytest.raises(AdapterTooLarge):
        cache.policy.learn_size(C, 2)


# ---- turns -------------------------------------------------------------------------------


def test_what_is_in_a_slot_is_leased_immediately() -> None:
    cache = Cache(slots=1, host=2)
    assert not cache.policy.try_lease(A)
    cache.use(A)
    assert cache.policy.try_lease(A)
    assert cache.policy.lease_count(A) == 1
    cache.ask(B)
    assert cache.gpu == (A,)
    cache.release(A)
    assert cache.gpu == (B,)
    assert not cache.policy.try_lease(A)  # in host memory only


def test_what_is_to_be_evicted_or_drains_is_not_leased_immediately() -> None:
    cache = Cache(slots=2, host=3)
    for version in (A, B):
        cache.ask(version)
    assert cache.drain_for(cache.ask(C)) == A
    assert not cache.policy.try_lease(A)
    cache.policy.evict(B, when_idle=True)
    assert not cache.policy.try_lease(B)
    assert (cache.policy.lease_count(A), cache.policy.lease_count(B)) == (1, 1)


def test_an_immediate_lease_counts_as_a_use() -> None:
    cache = Cache(slots=2, host=3)
    cache.use(A, B)
    assert cache.policy.try_lease(A)
    cache.release(A)
    cache.use(C)
    assert cache.gpu == (A, C)


def test_a_draining_adapter_admits_no_request_until_the_waiter_has_its_slot() -> None:
    cache = Cache(slots=1, host=2)
    cache.ask(A)
    waiting = cache.ask(B)
    assert cache.drain_for(waiting) == A
    late = cache.ask(A)
    assert cache.outcome(late) is None
    cache.release(A)
    assert cache.outcome(waiting) is CacheOutcome.MISS
    cache.release(B)
    assert cache.outcome(late) is CacheOutcome.HOST_HIT  # would have been a slot hit


def test_the_hot_adapter_that_was_granted_longest_ago_drains() -> None:
    """Its running requests should end first, however many they are."""
    cache = Cache(slots=3, host=4)
    for version in (A, B, B, C, A):
        cache.ask(version)
    cache.release(B)  # counts as a use, but is no new request
    assert cache.drain_for(cache.ask(D)) == B


def test_one_that_was_promised_a_place_gets_the_bytes_of_those_who_wait_behind_it() -> None:
    """B waits in host memory for the slot that is promised to C, which needs the bytes of B."""
    cache = Cache(slots=1, host=2, host_bytes=2)
    cache.sizes = {A: 1, B: 1, C: 2}
    cache.policy.prefetch(B)
    running = cache.ask(A)
    large, small = cache.ask(C), cache.ask(B)
    assert cache.drain_for(large) == A
    assert cache.outcome(running) is CacheOutcome.MISS
    cache.release(A)
    assert cache.outcome(large) is CacheOutcome.MISS
    cache.release(C)
    assert cache.outcome(small) is CacheOutcome.MISS  # it was evicted, and loaded again


def test_one_drain_for_each_waiting_adapter() -> None:
    cache = Cache(slots=2, host=4)
    cache.ask(A)
    cache.ask(B)
    first, second = cache.ask(C), cache.ask(C)
    assert cache.drain_for(first) == A
    assert cache.drain_for(second) is None


def test_a_promised_slot_goes_to_no_other_waiter() -> None:
    cache = Cache(slots=1, host=3)
    cache.ask(A)
    early, late = cache.ask(B), cache.ask(C)
    assert cache.drain_for(late) == A
    cache.release(A)
    assert cache.outcome(late) is CacheOutcome.MISS
    assert cache.outcome(early) is None


def test_a_drain_ends_when_the_waiter_has_its_slot() -> None:
    cache = Cache(slots=2, host=3)
    cache.ask(A)
    cache.ask(B)
    waiting = cache.ask(C)
    assert cache.drain_for(waiting) == A
    cache.release(B)  # another slot becomes free
    assert cache.outcome(waiting) is CacheOutcome.MISS
    assert cache.outcome(cache.ask(A)) is CacheOutcome.GPU_HIT


def test_a_drain_ends_when_the_waiter_fails() -> None:
    cache = Cache(slots=2, host=3)
    cache.ask(A)
    cache.ask(B)
    assert cache.drain_for(cache.ask(C)) == A
    cache.policy.release(B)
    assert cache.policy.advance() == [
        Deactivate(B, EvictionReason.CAPACITY, room_for=C),
        Activate(C),
    ]
    cache.policy.on_failed(C)
    assert cache.outcome(cache.ask(A)) is CacheOutcome.GPU_HIT


def test_a_drain_ends_when_the_last_waiter_leaves() -> None:
    cache = Cache(slots=1, host=2)
    cache.ask(A)
    first, last = cache.ask(B), cache.ask(B)
    assert cache.drain_for(first) == A
    cache.cancel(first)
    held_back = cache.ask(A)
    assert cache.outcome(held_back) is None
    cache.cancel(last)
    assert cache.outcome(held_back) is CacheOutcome.GPU_HIT


@pytest.mark.parametrize("tier", Tier)
def test_a_pin_ends_the_drain_of_what_it_protects(tier: Tier) -> None:
    cache = Cache(slots=2, host=3)
    cache.ask(A)
    cache.ask(B)
    assert cache.drain_for(cache.ask(C)) == A
    cache.pin(A, tier)
    assert cache.outcome(cache.ask(A)) is CacheOutcome.GPU_HIT


def test_an_adapter_pinned_in_its_slot_does_not_drain() -> None:
    cache = Cache(slots=2, host=3)
    cache.ask(A)
    cache.pin(A, Tier.GPU)
    cache.ask(B)
    cache.ask(B)
    assert cache.drain_for(cache.ask(C)) == B


def test_if_hot_adapters_fill_host_memory_one_is_evicted_for_a_cold_one() -> None:
    cache = Cache(slots=1, host=1)
    cache.ask(A)
    cold = cache.ask(B)
    assert cache.drain_for(cold) == A
    held_back = cache.ask(A)
    cache.release(A)
    assert Evict(A, EvictionReason.CAPACITY, left_slot=True, room_for=B) in cache.log
    assert cache.outcome(cold) is CacheOutcome.MISS
    cache.release(B)
    assert cache.outcome(held_back) is CacheOutcome.MISS


def test_an_adapter_pinned_in_host_memory_is_not_evicted_for_a_cold_one() -> None:
    cache = Cache(slots=2, host=2)
    cache.ask(A)
    cache.pin(A, Tier.HOST)
    cache.ask(B)
    cache.ask(B)
    assert cache.drain_for(cache.ask(C)) == B


def test_the_promise_of_a_slot_ends_when_its_holder_is_evicted_from_host_memory() -> None:
    """Else it would be promised the host place of the one that drains, pinned or not."""
    cache = Cache(slots=1, host=2)
    cache.ask(A)
    cache.pin(A, Tier.HOST)
    first = cache.ask(B)
    assert cache.drain_for(first) == A
    second = cache.ask(C)  # takes the host place of B
    cache.policy.evict(B, when_idle=True)
    cache.advance()
    cache.release(A)
    assert A in cache.host
    assert cache.outcome(second) is CacheOutcome.MISS
    cache.release(C)
    assert A in cache.host
    assert cache.outcome(first) is CacheOutcome.MISS


def test_a_load_without_waiters_does_not_block_other_loads_forever() -> None:
    cache = Cache(slots=2, host=2, max_loads=1)
    cache.ask(A)
    cache.ask(B)
    cache.cancel(cache.ask(C))  # is staged by now and finds no room
    cold, another = cache.ask(D), cache.ask(VersionId(5))
    assert StartLoad(D) not in cache.log
    assert cache.drain_for(cold) == A
    assert cache.drain_for(another) is None, "one place is enough for what is staged"
    cache.release(A)
    assert cache.outcome(cold) is CacheOutcome.MISS


def test_no_adapter_drains_for_one_that_is_still_being_loaded() -> None:
    cache = Cache(slots=1, host=1)
    cache.ask(A)
    cache.policy.arrive(99, B)
    assert cache.policy.advance() == [StartLoad(B)]
    assert cache.drain_for(99) is None


# ---- capacities --------------------------------------------------------------------------


def test_capacities_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="capacities"):
        CachePolicy(slots=0, host_capacity=1)
    with pytest.raises(ValueError, match="capacities"):
        CachePolicy(slots=2, host_capacity=1)
    with pytest.raises(ValueError, match="capacities"):
        CachePolicy(slots=1, host_capacity=1, max_loads=0)
