"""Cache policy: two tiers with leases, pins, a fair wait queue and an eviction order. Pure.

No clock, I/O, tasks or vLLM in here. Callers report what happened (`arrive`, `release`,
`on_loaded`, …) and then ask `advance` what to do; a decision counts as taken once it is returned.

Promises, checked by `check` and by a property test against a plain model:
- everything in a slot is in the host tier; neither tier ever holds more than its capacity, nor the
  host tier more than its bytes;
- a leased adapter keeps its slot, a pinned one its tier, one that is waited for its host place
  (unless it drains for one that has none, or occupies the bytes that such a one needs);
- the victim is the first of the rest in the eviction order;
- every waiter gets a slot eventually, unless its adapter can't be loaded.
"""

from collections.abc import Callable, Collection

from engine.errors import AdapterInUse, AdapterPinned
from engine.policy.decisions import Decision, Ticket
from engine.policy.eviction import VictimSelector
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.foresight import Foresight
from engine.policy.index import PlanningIndex
from engine.policy.pin_budget import PinBudget
from engine.policy.place import ACTIVATING, COMMITTING, HOST, LOADING, SLOT, SLOW, STAGED
from engine.policy.planner import Planner
from engine.policy.policy_views import PolicyViews
from engine.policy.ready_ahead import SHIPPED, Batching
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import EvictionReason, Tier, VersionId


class CachePolicy(PolicyViews):
    """Decides for `slots` GPU places over `host_capacity` host places of `host_bytes` in total.

    `eviction_order`: empty, and not shared; None: LRU. `slot_order`: the same for the slots, which
    are in the order of host memory if it is None. Raises ValueError if there is no slot, or fewer
    host places than slots: vLLM keeps a host copy of everything in a slot.
    """

    def __init__(
        self,
        *,
        slots: int,
        host_capacity: int,
        host_bytes: int | None = None,
        max_loads: int = 2,
        eviction_order: EvictionOrder | None = None,
        slot_order: EvictionOrder | None = None,
        batching: Batching = SHIPPED,
    ) -> None:
        if slots < 1 or host_capacity < slots or max_loads < 1:
            raise ValueError(f"bad capacities: {slots=} {host_capacity=} {max_loads=}")
        self.slots, self.host_capacity, self.host_bytes = slots, host_capacity, host_bytes
        self.wait_queue = WaitQueue()
        self._tiers = Tiers(
            slots=slots,
            host_capacity=host_capacity,
            host_bytes=host_bytes,
            eviction_order=LruOrder() if eviction_order is None else eviction_order,
            slot_order=slot_order,
            is_wanted=self.is_wanted,
        )
        self.pins = PinBudget(self._tiers, self._wanted)
        self._index = PlanningIndex(self._tiers, self.pins, self.wait_queue)
        self.foresight = Foresight(
            self.wait_queue, self._tiers.orders, self._index.refresh, places=host_capacity
        )
        self._victims = VictimSelector(self._tiers, self.pins, self.wait_queue, self._index)
        self._planner = Planner(
            self._tiers, self._victims, self.wait_queue, self._index, max_loads, batching
        )

    # ---- what happened -------------------------------------------------------------------

    def arrive(self, ticket: Ticket, version: VersionId) -> None:
        """A request asks for its adapter. It gets a `Grant`, or is `cancel`led, or fails."""
        self._planner.note_arrival()
        self.wait_queue.add(ticket, version, self.outcome_of(version))
        self.foresight.note_request(version)

    def try_lease(self, version: VersionId) -> bool:
        """Lease it if a request would be granted it next. False: the request has to `arrive`."""
        is_leased = self._planner.try_lease(version)
        if is_leased and self.foresight.prefetched:
            self.foresight.note_request(version)
        return is_leased

    def can_lease(self, version: VersionId) -> bool:
        """Whether `try_lease` would lease it."""
        return self._planner.can_lease(version)

    def cancel(self, ticket: Ticket) -> None:
        """The waiting request was cancelled. Unknown tickets are ignored."""
        waiter = self.wait_queue.remove(ticket)
        if waiter is not None and not self.wait_queue.count(waiter.version):
            self._victims.end_drains_for(waiter.version)

    def release(self, version: VersionId) -> None:
        self._tiers.release(version)

    def learn_size(self, version: VersionId, size_bytes: int) -> None:
        """The size of its files, before they are loaded; no news once a load has shown its size.

        Raises AdapterTooLarge if it doesn't fit into the host tier beside the pins.
        """
        if not self._tiers.size_of(version):
            self._tiers.learn_size(version, size_bytes)
        if self._tiers.place_of(version) is None:
            self.pins.check_room_for(version)

    def prefetch(self, version: VersionId) -> None:
        """Load it into the host tier when there is room, without a slot."""
        if self._tiers.place_of(version) is None:
            self._planner.prefetches[version] = None
            self._index.refresh(version)
        self.foresight.expect_prefetched(version)

    def on_slow_load(self, version: VersionId) -> None:
        """Others may be loaded in its place. Does nothing if its load has ended."""
        if self._tiers.place_of(version) is LOADING:
            self._tiers.put(version, SLOW)

    def on_loaded(self, version: VersionId, size_bytes: int = 0, load_seconds: float = 0.0) -> None:
        """It is staged, and takes that much. After AdapterTooLarge, report `on_failed`."""
        self._tiers.learn_size(version, size_bytes)
        self._tiers.learn_cost(version, load_seconds)
        self.pins.check_room_for(version)
        self._tiers.put(version, STAGED)

    def on_moved(self, version: VersionId) -> None:
        """The `Commit` or `Activate` decided last for this adapter is done."""
        if self._tiers.place_of(version) is COMMITTING:
            self._tiers.put(version, HOST)
            self._planner.prefetches.pop(version, None)
        else:
            self._tiers.put(version, SLOT)
            self._victims.end_drains_for(version)

    def on_failed(self, version: VersionId) -> list[Ticket]:
        """The load or move failed: back to where it was. Returns its waiters' tickets, now void."""
        self._planner.prefetches.pop(version, None)
        self._victims.end_drains_for(version)
        if self._tiers.place_of(version) is ACTIVATING:
            self._tiers.put(version, HOST)
        else:
            self._tiers.remove(version)
            self._planner.pending_evictions.pop(version, None)
        return self.wait_queue.remove_all(version)

    # ---- requests of operators and waiters -----------------------------------------------

    def drain_for(
        self, ticket: Ticket, can_end: Callable[[VersionId], bool] = lambda hot: True
    ) -> VersionId | None:
        """This waiter has waited too long: drain the hot adapter that was granted longest ago.

        That admits no request until the waiter has its slot. Returns it, or None if there is
        nothing to do. `can_end`: whether its running requests are expected to end; else it stays.
        """
        version = self.wait_queue.version_of(ticket)
        return None if version is None else self._planner.drain_for(version, can_end)

    def give_up_drains_for(self, version: VersionId) -> None:
        """The drains for it took too long: the hot adapters admit requests again."""
        self._victims.end_drains_for(version)

    def pin(self, version: VersionId, tier: Tier) -> None:
        """Never evict it from this tier. Loads nothing.

        Raises PinBudgetExceeded or PinBytesExceeded.
        """
        self.pins.add(version, tier)
        self._planner.pending_evictions.pop(version, None)
        self._victims.stop_draining(version)

    def evict(
        self,
        version: VersionId,
        *,
        when_idle: bool = False,
        reason: EvictionReason = EvictionReason.REQUESTED,
    ) -> None:
        """Evict it from both tiers; nothing to do if it is on disk only.

        Immediately, or `when_idle`: after its last lease, and until then it admits no request.
        Raises AdapterPinned, or AdapterInUse if it would have to wait.
        """
        if version in self.pins:
            raise AdapterPinned
        if self._tiers.place_of(version) is None:
            return
        if not when_idle and self.in_use(version):
            raise AdapterInUse
        self._planner.pending_evictions[version] = reason

    def give_up_eviction(self, version: VersionId) -> None:
        """Admit its requests again, if it has not been evicted."""
        self._planner.pending_evictions.pop(version, None)

    def in_use(self, version: VersionId) -> bool:
        """Whether requests hold or wait for it, or it is on its way into memory."""
        if self._tiers.lease_count(version) or self.wait_queue.count(version):
            return True
        return self._tiers.place_of(version) is not None and not self._tiers.is_settled(version)

    # ---- drift and restarts --------------------------------------------------------------

    def correct(self, gpu: Collection[VersionId], host: Collection[VersionId]) -> list[Decision]:
        """Adopt what the engine holds, except for what is leased or moving.

        Returns the evictions of what the engine holds and the policy does not know.
        """
        return self._planner.correct(gpu, host)

    def cancel_all(self) -> list[Ticket]:
        """The engine has died: no request waits any more. Returns their tickets."""
        return [t for v in self.wait_queue.versions() for t in self.wait_queue.remove_all(v)]

    def reset(self) -> None:
        """The engine has died, and all leases with it. Pins stay. `cancel_all` comes first."""
        assert not len(self.wait_queue), "requests wait for the dead engine"
        self._planner.reset()

    def follow_changes(
        self, changed: Callable[[VersionId], None], cleared: Callable[[], None]
    ) -> None:
        """One follower: `changed` is called after each change of an adapter's place, leases,
        waiters, pin or size; `cleared` when the engine has died. It may only read.
        """
        self._index.follow(changed, cleared)

    # ---- what to do ----------------------------------------------------------------------

    def advance(self) -> list[Decision]:
        """Everything that can be decided now, in the order in which it has to be carried out."""
        return self._planner.plan()

    # ---- what always holds ---------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if a promise of this class is broken: our bug, never a user's."""
        self._tiers.check()
        self._victims.check()
        self._index.check()
