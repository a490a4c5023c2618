"""Simulated replica: the server's own cache policy and drains, over a simulated engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile

from engine.cache.drains import Drains
from engine.errors import AdapterTooLarge
from engine.policy.decisions import Activate, Commit, Grant, StartLoad, Ticket
from engine.policy.eviction_orders.choice import TierOrders, create_orders
from engine.policy.policy import CachePolicy
from engine.policy.ready_ahead import SHIPPED, Batching
from engine.simulation.agenda import Agenda
from engine.simulation.shared_engine import BASE_MODEL, Costs, Request, SharedEngine
from engine.types import AdmissionLimits, CacheOutcome, EvictionPolicy, VersionId


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a replica's cache, and how long and how many requests may wait for a slot.

    `whole_steps`: of its engine, see `SharedEngine`.
    """

    slots: int
    host_capacity: int
    max_loads: int = 2
    host_bytes: int | None = None
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    whole_steps: bool = False
    batching: Batching = SHIPPED


class Replica:
    """Serves requests. `load`: how many it has now; `loads`, `activations`: so far.

    `orders`: of its cache, not shared; None: the default ones. `sizes`: of adapters, in bytes; one
    that is not in it has none.
    """

    def __init__(
        self,
        name: str,
        agenda: Agenda,
        costs: Costs,
        shape: Shape,
        *,
        orders: TierOrders | None = None,
        sizes: Mapping[VersionId, int] | None = None,
    ) -> None:
        orders = orders or create_orders(
            EvictionPolicy.ADAPTIVE, per_byte=shape.host_bytes is not None
        )
        self.name = name
        self.load = self.loads = self.activations = 0
        self.policy = CachePolicy(
            slots=shape.slots,
            host_capacity=shape.host_capacity,
            host_bytes=shape.host_bytes,
            max_loads=shape.max_loads,
            eviction_order=orders.host,
            slot_order=orders.slots,
            batching=shape.batching,
        )
        self._agenda, self._costs, self._limits = agenda, costs, shape.limits
        self._sizes = sizes or {}
        self._engine = SharedEngine(agenda, costs, self._on_ended, shape.whole_steps)
        self._pending: dict[Ticket, Request] = {}  # in order of arrival
        self._used = {BASE_MODEL}  # at any time
        self._drains = Drains(
            self.policy, self._overdue, lambda hot, cold: None, lambda: agenda.now, shape.limits
        )
        self._checks = False

    def take(self, request: Request) -> None:
        if request.adapter not in self._used and self._costs.first_use_seconds:
            self._used.add(request.adapter)
            self._agenda.after(self._costs.first_use_seconds, partial(self._take, request))
        else:
            self._take(request)

    def _take(self, request: Request) -> None:
        adapter = request.adapter
        if adapter == BASE_MODEL:
            self.load += 1
            request.granted_at = self._agenda.now
            self._engine.add(request)
            return
        if self.policy.try_lease(adapter):
            self.load += 1
            self._run(request, CacheOutcome.GPU_HIT)
            return
        queue, limits = self.policy.wait_queue, self._limits
        full = len(queue) >= limits.max_waiting
        if full or queue.count(adapter) >= limits.max_waiting_per_adapter:
            request.refused = True
            return
        if self._sizes:
            try:
                self.policy.learn_size(adapter, self._sizes.get(adapter, 0))
            except AdapterTooLarge:
                request.refused = True
                return
        self.load += 1
        self._pending[request.number] = request
        self.policy.arrive(request.number, adapter)
        self._carry_out()
        if self._pending and not self._checks:
            self._checks = True
            self._agenda.after(self._drains.check_seconds, self._check)

    def _run(self, request: Request, outcome: CacheOutcome) -> None:
        request.outcome, request.granted_at = outcome, self._agenda.now
        self._drains.record_lease(request.adapter, request.number)
        self._engine.add(request)

    def _on_ended(self, request: Request) -> None:
        self.load -= 1
        if request.adapter == BASE_MODEL:
            return
        self._drains.record_release(request.adapter, request.number)
        self.policy.release(request.adapter)
        self._carry_out()

    # ---- fairness ------------------------------------------------------------------------

    def _check(self) -> None:
        for ticket, _ in self._overdue(self._limits.slot_timeout_seconds):
            self._pending.pop(ticket).refused = True
            self.policy.cancel(ticket)
            self.load -= 1
        self._drains.check()
        self._carry_out()
        self._checks = bool(self._pending)
        if self._checks:
            self._agenda.after(self._drains.check_seconds, self._check)

    def _overdue(self, seconds: float) -> list[tuple[Ticket, float]]:
        latest = self._agenda.now - seconds
        arrivals = ((number, each.arrived_at) for number, each in self._pending.items())
        return list(takewhile(lambda each: each[1] < latest, arrivals))

    # ---- decisions -----------------------------------------------------------------------

    def _carry_out(self) -> None:
        for decision in self.policy.advance():
            match decision:
                case StartLoad(version):
                    self.loads += 1
                    size = self._sizes.get(version, 0)
                    seconds = self._costs.load(self.loads, size)
                    self._later(seconds, partial(self.policy.on_loaded, version, size, seconds))
                case Commit(version):
                    self._later(0.0, partial(self.policy.on_moved, version))
                case Activate(version):
                    self.activations += 1
                    size, each = self._sizes.get(version, 0), self._costs.activate_seconds_per_byte
                    on_moved = partial(self.policy.on_moved, version)
                    self._later(self._costs.activate_seconds + size * each, on_moved)
                case Grant(ticket, _, outcome):
                    self._run(self._pending.pop(ticket), outcome)
                case _:
                    pass  # what leaves has left once it is decided

    def _later(self, seconds: float, report: Callable[[], object]) -> None:
        def happened() -> None:
            report()
            self._carry_out()

        self._agenda.after(seconds, happened)
