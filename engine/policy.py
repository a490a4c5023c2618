"""Who may be in which tier: two LRU tiers with leases, pins and a fair queue. Pure decisions.

No clock, I/O, tasks or vLLM in here. Callers report what happened (`arrive`, `release`,
`loaded`, …) and then ask `advance` what to do; a decision counts as taken once it is returned.

Promises, checked by `check` and by a property test against a plain model:
- everything in a slot is in the host tier; neither tier ever holds more than its capacity;
- a leased adapter keeps its slot, a pinned one its tier, an awaited one its host place (unless it
  drains for one that has none);
- the victim is the least recently used of the rest (recency counts at grant and at release);
- whoever waits gets a turn, unless the adapter can't be loaded.
"""

from collections import OrderedDict
from collections.abc import Iterator

from engine.decisions import (
    Activate,
    Commit,
    Deactivate,
    Decision,
    Evict,
    Grant,
    Residency,
    StartLoad,
    Ticket,
)
from engine.errors import AdapterInUse, AdapterPinned
from engine.pins import PinBook
from engine.tiers import Place, Tiers
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId
from engine.victims import Victims
from engine.waiting import WaitingLine


class CachePolicy:
    """Decides for `slots` GPU places over `host_capacity` host places.

    Raises ValueError if there is no slot or the host tier is smaller than the GPU tier: vLLM
    keeps a host copy of everything in a slot.
    """

    def __init__(self, *, slots: int, host_capacity: int, max_loads: int = 2) -> None:
        if slots < 1 or host_capacity < slots or max_loads < 1:
            raise ValueError(f"bad capacities: {slots=} {host_capacity=} {max_loads=}")
        self.slots = slots
        self.host_capacity = host_capacity
        self.pins = PinBook(slots=slots, host_capacity=host_capacity)
        self.waiting = WaitingLine()
        self._max_loads = max_loads
        self._tiers = Tiers(slots=slots, host_capacity=host_capacity)
        self._victims = Victims(self._tiers, self.pins, self.waiting)
        self._prefetch: OrderedDict[VersionId, None] = OrderedDict()

    # ---- what happened -------------------------------------------------------------------

    def arrive(self, ticket: Ticket, version: VersionId) -> None:
        """A request asks for its adapter. It gets a `Grant`, or is `cancel`led, or fails."""
        match self._tiers.place_of(version):
            case Place.SLOT:
                outcome = CacheOutcome.GPU_HIT
            case Place.HOST | Place.ACTIVATING:
                outcome = CacheOutcome.HOST_HIT
            case _:
                outcome = CacheOutcome.MISS
        self.waiting.join(ticket, version, outcome)

    def cancel(self, ticket: Ticket) -> None:
        """The waiting request went away. Unknown tickets are ignored."""
        waiter = self.waiting.leave(ticket)
        if waiter is not None and not self.waiting.count(waiter.version):
            self._victims.end_drains_for(waiter.version)

    def release(self, version: VersionId) -> None:
        """A granted request has ended."""
        self._tiers.give_back(version)

    def prefetch(self, version: VersionId) -> None:
        """Bring it into the host tier when there is room, without a slot."""
        if self._tiers.place_of(version) is None:
            self._prefetch[version] = None

    def loaded(self, version: VersionId) -> None:
        """The load begun by `StartLoad` is staged."""
        self._tiers.put(version, Place.STAGED)

    def moved(self, version: VersionId) -> None:
        """The `Commit` or `Activate` decided last for this adapter is done."""
        if self._tiers.place_of(version) is Place.COMMITTING:
            self._tiers.put(version, Place.HOST)
            self._prefetch.pop(version, None)
        else:
            self._tiers.put(version, Place.SLOT)
            self._victims.end_drains_for(version)

    def failed(self, version: VersionId) -> list[Ticket]:
        """The load or move failed: back to where it was. Returns its waiters' tickets, now void."""
        self._prefetch.pop(version, None)
        self._victims.end_drains_for(version)
        if self._tiers.place_of(version) is Place.ACTIVATING:
            self._tiers.put(version, Place.HOST)
        else:
            self._tiers.remove(version)
        return self.waiting.leave_all(version)

    # ---- what is wanted ------------------------------------------------------------------

    def drain_for(self, ticket: Ticket) -> VersionId | None:
        """This waiter found no place for too long: a hot adapter has to leave for it.

        The hot adapter (the one with the fewest leases) admits nobody until the waiter had its
        turn. Returns it, or None if there is nothing to do.
        """
        version = self.waiting.version_of(ticket)
        return None if version is None else self._victims.drain_for(version)

    def pin(self, version: VersionId, tier: Tier) -> None:
        """Never evict it from this tier. Brings nothing in by itself. Raises PinBudgetExceeded."""
        self.pins.add(version, tier)
        self._victims.stop_draining(version)

    def evict(self, version: VersionId) -> list[Decision]:
        """Out of both tiers, now; nothing to do if it is on disk only.

        Raises AdapterPinned or AdapterInUse.
        """
        if version in self.pins:
            raise AdapterPinned
        if self._tiers.place_of(version) is None:
            return []
        in_use = self._tiers.leases(version) or self.waiting.count(version)
        if in_use or not self._tiers.is_settled(version):
            raise AdapterInUse
        return [self._evict(version, EvictionReason.REQUESTED)]

    # ---- what to do ----------------------------------------------------------------------

    def advance(self) -> list[Decision]:
        """Everything that can be decided now, in the order in which it has to be carried out."""
        return [*self._grants(), *self._loads(), *self._commits(), *self._activations()]

    def _grants(self) -> Iterator[Decision]:
        for ticket, waiter in self.waiting.in_order():
            version = waiter.version
            in_slot = self._tiers.place_of(version) is Place.SLOT
            if in_slot and not self._victims.is_draining(version):
                self.waiting.leave(ticket)
                self._tiers.lease(version)
                yield Grant(ticket, version, waiter.outcome)

    def _loads(self) -> Iterator[Decision]:
        for version in [*self.waiting.versions(), *self._prefetch]:
            if self._tiers.outside() >= self._max_loads:
                return
            if self._tiers.place_of(version) is None:
                self._tiers.put(version, Place.LOADING)
                yield StartLoad(version)

    def _commits(self) -> Iterator[Decision]:
        for version in self._tiers.staged():
            if self._tiers.host_is_full():
                victim = self._victims.of_host()
                if victim is None:
                    return
                yield self._evict(victim, EvictionReason.CAPACITY)
            self._tiers.put(version, Place.COMMITTING)
            yield Commit(version)

    def _activations(self) -> Iterator[Decision]:
        for version in self.waiting.versions():
            if self._tiers.place_of(version) is not Place.HOST:
                continue
            if self._tiers.slots_are_full():
                victim = self._victims.of_slots(version)
                if victim is None:
                    continue
                yield self._deactivate(victim)
            self._tiers.put(version, Place.ACTIVATING)
            yield Activate(version)

    def _evict(self, version: VersionId, reason: EvictionReason) -> Evict:
        left_slot = self._tiers.place_of(version) is Place.SLOT
        self._tiers.remove(version)
        self._victims.stop_draining(version)
        self.waiting.lost(version, CacheOutcome.MISS)
        return Evict(version, reason, left_slot)

    def _deactivate(self, version: VersionId) -> Deactivate:
        self._tiers.put(version, Place.HOST)
        self._victims.stop_draining(version)
        self.waiting.lost(version, CacheOutcome.HOST_HIT)
        return Deactivate(version, EvictionReason.CAPACITY)

    # ---- views ---------------------------------------------------------------------------

    def residency(self) -> Residency:
        """Both tiers in LRU order, adapters that are just moving in included."""
        return self._tiers.residency()

    def leases(self, version: VersionId) -> int:
        return self._tiers.leases(version)

    def in_host(self, version: VersionId) -> bool:
        """It is in the host tier, and not just about to be."""
        entered = self._tiers.entered_host(version)
        return entered and self._tiers.place_of(version) is not Place.COMMITTING

    def in_transit(self) -> tuple[VersionId, ...]:
        """Adapters between disk and the host tier, or just being copied."""
        return self._tiers.in_transit()

    def check(self) -> None:
        """Raise AssertionError if a promise of this class is broken: our bug, never a user's."""
        self._tiers.check()
        self._victims.check()
