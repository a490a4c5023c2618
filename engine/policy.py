"""Who may be in which tier: two LRU tiers with leases, pins and a fair queue. Pure decisions.

No clock, I/O, tasks or vLLM in here. Callers report what happened (`arrive`, `release`,
`loaded`, …) and then ask `advance` what to do; a decision counts as taken once it is returned.

Promises, checked by `check` and by a property test against a plain model:
- everything in a slot is in the host tier; neither tier ever holds more than its capacity;
- a leased adapter keeps its slot, a pinned one its tier, an awaited one its host place;
- the victim is the least recently used of the rest (recency counts at grant and at release);
- whoever waits gets a turn, unless the adapter can't be loaded.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from enum import Enum, auto

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
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId
from engine.waiting import WaitingLine


class _Place(Enum):
    """Where an adapter is on its way in. One that has no place is on disk only."""

    LOADING = auto()
    LOADED = auto()  # staged beside the tiers, waits for a place in the host tier
    COMMITTING = auto()
    HOST = auto()
    ACTIVATING = auto()
    SLOT = auto()


_IN_HOST = frozenset({_Place.COMMITTING, _Place.HOST, _Place.ACTIVATING, _Place.SLOT})
_IN_SLOT = frozenset({_Place.ACTIVATING, _Place.SLOT})
_STAGING = frozenset({_Place.LOADING, _Place.LOADED})


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
        self._place: dict[VersionId, _Place] = {}
        self._recency: OrderedDict[VersionId, None] = OrderedDict()  # host tier, LRU first
        self._leases: Counter[VersionId] = Counter()
        self._prefetch: OrderedDict[VersionId, None] = OrderedDict()
        self._drains: dict[VersionId, VersionId] = {}  # whose slot → whom it is promised to

    # ---- what happened -------------------------------------------------------------------

    def arrive(self, ticket: Ticket, version: VersionId) -> None:
        """A request asks for its adapter. It gets a `Grant`, or is `cancel`led, or fails."""
        match self._place.get(version):
            case _Place.SLOT:
                outcome = CacheOutcome.GPU_HIT
            case _Place.HOST | _Place.ACTIVATING:
                outcome = CacheOutcome.HOST_HIT
            case _:
                outcome = CacheOutcome.MISS
        self.waiting.join(ticket, version, outcome)

    def cancel(self, ticket: Ticket) -> None:
        """The waiting request went away. Unknown tickets are ignored."""
        waiter = self.waiting.leave(ticket)
        if waiter is not None and not self.waiting.count(waiter.version):
            self._end_drain_for(waiter.version)

    def release(self, version: VersionId) -> None:
        """A granted request has ended."""
        self._leases[version] -= 1
        if self._leases[version] <= 0:
            del self._leases[version]
        self._recency.move_to_end(version)

    def prefetch(self, version: VersionId) -> None:
        """Bring it into the host tier when there is room, without a slot."""
        if version not in self._place:
            self._prefetch[version] = None

    def loaded(self, version: VersionId) -> None:
        """The load begun by `StartLoad` is staged."""
        self._place[version] = _Place.LOADED

    def moved(self, version: VersionId) -> None:
        """The `Commit` or `Activate` decided last for this adapter is done."""
        if self._place[version] is _Place.COMMITTING:
            self._place[version] = _Place.HOST
            self._prefetch.pop(version, None)
        else:
            self._place[version] = _Place.SLOT
            self._end_drain_for(version)

    def failed(self, version: VersionId) -> list[Ticket]:
        """The load or move failed: back to where it was. Returns its waiters' tickets, now void."""
        self._prefetch.pop(version, None)
        self._end_drain_for(version)
        if self._place.get(version) is _Place.ACTIVATING:
            self._place[version] = _Place.HOST
        else:
            self._forget(version)
        return self.waiting.leave_all(version)

    # ---- what is wanted ------------------------------------------------------------------

    def drain_for(self, ticket: Ticket) -> VersionId | None:
        """This waiter is loaded but found no slot for too long: promise it a hot adapter's slot.

        The hot adapter (the one with the fewest leases) admits nobody until the waiter had its
        turn. Returns it, or None if there is nothing to do.
        """
        version = self.waiting.version_of(ticket)
        if version is None or self._place.get(version) is not _Place.HOST:
            return None
        if version in self._drains.values():
            return None
        hot = [v for v in self._recency if self._leases[v] and v not in self._drains]
        hot = [v for v in hot if not self.pins.in_slot(v)]
        if not hot:
            return None
        chosen = min(hot, key=lambda v: self._leases[v])
        self._drains[chosen] = version
        return chosen

    def pin(self, version: VersionId, tier: Tier) -> None:
        """Never evict it from this tier. Brings nothing in by itself. Raises PinBudgetExceeded."""
        self.pins.add(version, tier)
        if tier is Tier.GPU:
            self._drains.pop(version, None)

    def evict(self, version: VersionId) -> list[Decision]:
        """Out of both tiers, now; nothing to do if it is on disk only.

        Raises AdapterPinned or AdapterInUse.
        """
        place = self._place.get(version)
        if version in self.pins:
            raise AdapterPinned
        if place is None:
            return []
        settled = place in (_Place.HOST, _Place.SLOT)
        if not settled or self._leases[version] or self.waiting.count(version):
            raise AdapterInUse
        return [self._evict(version, EvictionReason.REQUESTED)]

    # ---- what to do ----------------------------------------------------------------------

    def advance(self) -> list[Decision]:
        """Everything that can be decided now, in the order in which it has to be carried out."""
        return [*self._grants(), *self._loads(), *self._commits(), *self._activations()]

    def _grants(self) -> Iterator[Decision]:
        for ticket, waiter in self.waiting.in_order():
            version = waiter.version
            if self._place.get(version) is _Place.SLOT and version not in self._drains:
                self.waiting.leave(ticket)
                self._leases[version] += 1
                self._recency.move_to_end(version)
                yield Grant(ticket, version, waiter.outcome)

    def _loads(self) -> Iterator[Decision]:
        in_flight = self._used(_STAGING)
        for version in [*self.waiting.versions(), *self._prefetch]:
            if in_flight >= self._max_loads:
                return
            if version not in self._place:
                self._place[version] = _Place.LOADING
                in_flight += 1
                yield StartLoad(version)

    def _commits(self) -> Iterator[Decision]:
        for version in [v for v, place in self._place.items() if place is _Place.LOADED]:
            if self._used(_IN_HOST) >= self.host_capacity:
                victim = self._host_victim()
                if victim is None:
                    return
                yield self._evict(victim, EvictionReason.CAPACITY)
            self._place[version] = _Place.COMMITTING
            self._recency[version] = None
            yield Commit(version)

    def _activations(self) -> Iterator[Decision]:
        for version in self.waiting.versions():
            if self._place.get(version) is not _Place.HOST:
                continue
            if self._used(_IN_SLOT) >= self.slots:
                victim = self._slot_victim(version)
                if victim is None:
                    continue
                yield self._deactivate(victim)
            self._place[version] = _Place.ACTIVATING
            yield Activate(version)

    # ---- victims -------------------------------------------------------------------------

    def _host_victim(self) -> VersionId | None:
        free = [v for v in self._recency if v not in self.pins and not self.waiting.count(v)]
        host_only = [v for v in free if self._place[v] is _Place.HOST]
        idle_slot = [v for v in free if self._place[v] is _Place.SLOT and not self._leases[v]]
        return next(iter(host_only + idle_slot), None)

    def _slot_victim(self, wanted_by: VersionId) -> VersionId | None:
        for version in self._recency:
            if self._place[version] is not _Place.SLOT or self._leases[version]:
                continue
            promised_to = self._drains.get(version, wanted_by)
            if not self.pins.in_slot(version) and promised_to == wanted_by:
                return version
        return None

    def _evict(self, version: VersionId, reason: EvictionReason) -> Evict:
        left_slot = self._place[version] is _Place.SLOT
        self._forget(version)
        return Evict(version, reason, left_slot)

    def _deactivate(self, version: VersionId) -> Deactivate:
        self._place[version] = _Place.HOST
        self._drains.pop(version, None)
        self.waiting.lost_slot(version)
        return Deactivate(version, EvictionReason.CAPACITY)

    def _forget(self, version: VersionId) -> None:
        self._place.pop(version, None)
        self._recency.pop(version, None)
        self._drains.pop(version, None)

    def _end_drain_for(self, version: VersionId) -> None:
        self._drains = {hot: cold for hot, cold in self._drains.items() if cold != version}

    # ---- views ---------------------------------------------------------------------------

    def _used(self, places: frozenset[_Place]) -> int:
        return sum(place in places for place in self._place.values())

    def residency(self) -> Residency:
        """Both tiers in LRU order, adapters that are just moving in included."""
        gpu = tuple(v for v in self._recency if self._place[v] in _IN_SLOT)
        return Residency(gpu=gpu, host=tuple(self._recency))

    def leases(self, version: VersionId) -> int:
        return self._leases[version]

    def in_host(self, version: VersionId) -> bool:
        return self._place.get(version) in _IN_HOST - {_Place.COMMITTING}

    def in_transit(self) -> tuple[VersionId, ...]:
        """Adapters between disk and the host tier, or just being copied."""
        settled = (_Place.HOST, _Place.SLOT)
        return tuple(v for v, place in self._place.items() if place not in settled)

    def check(self) -> None:
        """Raise AssertionError if a promise of this class is broken: our bug, never a user's."""
        in_slot = {v for v, place in self._place.items() if place in _IN_SLOT}
        in_host = {v for v, place in self._place.items() if place in _IN_HOST}
        assert len(in_slot) <= self.slots, f"too many in slots: {in_slot}"
        assert len(in_host) <= self.host_capacity, f"too many in host memory: {in_host}"
        assert in_host == set(self._recency), "recency and host tier differ"
        assert all(n > 0 for n in self._leases.values()), "lease count below one"
        leased = set(self._leases)
        assert leased <= in_slot, f"leased but in no slot: {leased - in_slot}"
        assert set(self._drains) <= in_slot, "a slot was promised that isn't there"
