"""Who may be in which tier: two LRU tiers with leases, pins and a fair queue. Pure decisions.

No clock, I/O, tasks or vLLM in here. Callers report what happened (`arrive`, `release`,
`loaded`, …) and then ask `advance` what to do; a decision counts as taken once it is returned.

Promises, checked by `check` and by a property test against a plain model:
- everything in a slot is in the host tier; neither tier ever holds more than its capacity, nor the
  host tier more than its bytes;
- a leased adapter keeps its slot, a pinned one its tier, an awaited one its host place (unless it
  drains for one that has none, or keeps the bytes that such a one needs);
- the victim is the least recently used of the rest (recency counts at grant and at release);
- whoever waits gets a turn, unless the adapter can't be loaded.
"""

from collections.abc import Collection

from engine.errors import AdapterInUse, AdapterPinned, AdapterTooLarge
from engine.policy.decisions import Decision, Residency, Ticket
from engine.policy.eviction import VictimSelector
from engine.policy.pin_budget import PinBudget
from engine.policy.planner import Planner
from engine.policy.tiers import Place, Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import CacheOutcome, EvictionReason, Tier, VersionId


class CachePolicy:
    """Decides for `slots` GPU places over `host_capacity` host places of `host_bytes` together.

    Raises ValueError if there is no slot or the host tier is smaller than the GPU tier: vLLM
    keeps a host copy of everything in a slot.
    """

    def __init__(
        self, *, slots: int, host_capacity: int, host_bytes: int | None = None, max_loads: int = 2
    ) -> None:
        if slots < 1 or host_capacity < slots or max_loads < 1:
            raise ValueError(f"bad capacities: {slots=} {host_capacity=} {max_loads=}")
        self.slots = slots
        self.host_capacity = host_capacity
        self.host_bytes = host_bytes
        self.waiting = WaitQueue()
        self._tiers = Tiers(slots=slots, host_capacity=host_capacity, host_bytes=host_bytes)
        self.pins = PinBudget(self._tiers)
        self._victims = VictimSelector(self._tiers, self.pins, self.waiting)
        self._planner = Planner(self._tiers, self._victims, self.waiting, max_loads=max_loads)

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

    def lease_resident(self, version: VersionId) -> bool:
        """A request asks for its adapter, and has it at once if it would be granted next anyway.

        If not, it has to `arrive`.
        """
        return self._planner.lease_resident(version)

    def cancel(self, ticket: Ticket) -> None:
        """The waiting request went away. Unknown tickets are ignored."""
        waiter = self.waiting.leave(ticket)
        if waiter is not None and not self.waiting.count(waiter.version):
            self._victims.end_drains_for(waiter.version)

    def release(self, version: VersionId) -> None:
        """A granted request has ended."""
        self._tiers.give_back(version)

    def know(self, version: VersionId, size_bytes: int) -> None:
        """How large its files are, before they are loaded.

        Raises AdapterTooLarge if the host tier has no room for it, whoever leaves.
        """
        if not self._tiers.size_of(version):
            self._learn_size(version, size_bytes)

    def _learn_size(self, version: VersionId, size_bytes: int) -> None:
        self._tiers.learn_size(version, size_bytes)
        try:
            self.pins.check_room_for(version)
        except AdapterTooLarge:
            self._tiers.learn_size(version, 0)  # what can't come in takes no room from the pins
            raise

    def prefetch(self, version: VersionId) -> None:
        """Bring it into the host tier when there is room, without a slot."""
        if self._tiers.place_of(version) is None:
            self._planner.prefetch[version] = None

    def loaded(self, version: VersionId, size_bytes: int = 0) -> None:
        """The load begun by `StartLoad` is staged, and takes that much.

        Raises AdapterTooLarge; then the load counts as failed once `failed` is called.
        """
        self._learn_size(version, size_bytes)
        self._tiers.put(version, Place.STAGED)

    def moved(self, version: VersionId) -> None:
        """The `Commit` or `Activate` decided last for this adapter is done."""
        if self._tiers.place_of(version) is Place.COMMITTING:
            self._tiers.put(version, Place.HOST)
            self._planner.prefetch.pop(version, None)
        else:
            self._tiers.put(version, Place.SLOT)
            self._victims.end_drains_for(version)

    def failed(self, version: VersionId) -> list[Ticket]:
        """The load or move failed: back to where it was. Returns its waiters' tickets, now void."""
        self._planner.prefetch.pop(version, None)
        self._victims.end_drains_for(version)
        if self._tiers.place_of(version) is Place.ACTIVATING:
            self._tiers.put(version, Place.HOST)
        else:
            self._tiers.remove(version)
            self._planner.leaving.pop(version, None)
        return self.waiting.leave_all(version)

    # ---- what is wanted ------------------------------------------------------------------

    def drain_for(self, ticket: Ticket) -> VersionId | None:
        """This waiter found no place for too long: a hot adapter has to leave for it.

        The hot adapter (the one granted longest ago) admits nobody until the waiter had its
        turn. Returns it, or None if there is nothing to do.
        """
        version = self.waiting.version_of(ticket)
        return None if version is None else self._victims.drain_for(version)

    def pin(self, version: VersionId, tier: Tier) -> None:
        """Never evict it from this tier. Brings nothing in by itself.

        Raises PinBudgetExceeded or PinBytesExceeded.
        """
        self.pins.add(version, tier)
        self._planner.leaving.pop(version, None)
        self._victims.stop_draining(version)

    def evict(
        self,
        version: VersionId,
        *,
        when_idle: bool = False,
        reason: EvictionReason = EvictionReason.REQUESTED,
    ) -> None:
        """Out of both tiers; nothing to do if it is on disk only.

        At once, or `when_idle`: after its last lease, and until it has left it admits nobody.
        Raises AdapterPinned, or AdapterInUse if it would have to wait.
        """
        if version in self.pins:
            raise AdapterPinned
        if self._tiers.place_of(version) is None:
            return
        if not when_idle and self.in_use(version):
            raise AdapterInUse
        self._planner.prefetch.pop(version, None)
        self._planner.leaving[version] = reason

    def in_use(self, version: VersionId) -> bool:
        """Whether requests hold or await it, or it is on its way."""
        if self._tiers.leases(version) or self.waiting.count(version):
            return True
        return self._tiers.place_of(version) is not None and not self._tiers.is_settled(version)

    # ---- when the engine is not what it was ----------------------------------------------

    def correct(self, gpu: Collection[VersionId], host: Collection[VersionId]) -> list[Decision]:
        """Believe what the engine says it holds, but for what is leased or just moving.

        Returns what it has to give up, because nobody here knows of it.
        """
        return self._planner.correct(gpu, host)

    def void_all(self) -> list[Ticket]:
        """Nobody waits any more: the engine has gone. Returns their tickets."""
        self._planner.prefetch.clear()
        return [t for v in self.waiting.versions() for t in self.waiting.leave_all(v)]

    def forget_residency(self) -> None:
        """The engine has gone, and all leases with it. Pins stay. Nobody may wait."""
        assert not len(self.waiting), "somebody waits for the engine that was"
        self._planner.forget()

    # ---- what to do ----------------------------------------------------------------------

    def advance(self) -> list[Decision]:
        """Everything that can be decided now, in the order in which it has to be carried out."""
        return self._planner.plan()

    # ---- views ---------------------------------------------------------------------------

    def residency(self) -> Residency:
        """Both tiers in LRU order, adapters that are just moving in included."""
        return self._tiers.residency()

    def leases(self, version: VersionId) -> int:
        return self._tiers.leases(version)

    def is_idle(self) -> bool:
        """Nobody holds an adapter and nobody waits for one."""
        return not self._tiers.any_leases() and not len(self.waiting)

    def size_of(self, version: VersionId) -> int:
        """Bytes in host memory, as far as is known."""
        return self._tiers.size_of(version)

    def is_leaving(self, version: VersionId) -> bool:
        """It admits nobody and gives its place up once it is idle."""
        return version in self._planner.leaving or self._victims.is_draining(version)

    def is_on_disk_only(self, version: VersionId) -> bool:
        """In no tier, and not on its way to one."""
        return self._tiers.place_of(version) is None

    def in_host(self, version: VersionId) -> bool:
        """It is in the host tier, and not just about to be."""
        entered = self._tiers.entered_host(version)
        return entered and self._tiers.place_of(version) is not Place.COMMITTING

    def foreseen(self) -> tuple[VersionId, ...]:
        """Prefetches that are not in the host tier yet."""
        return tuple(self._planner.prefetch)

    def in_transit(self) -> tuple[VersionId, ...]:
        """Adapters between disk and the host tier, or just being copied."""
        return self._tiers.in_transit()

    def check(self) -> None:
        """Raise AssertionError if a promise of this class is broken: our bug, never a user's."""
        self._tiers.check()
        self._victims.check()
