"""Replay: a trace served by one simulated server, with its own policy, on a virtual clock."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.policy.eviction_orders.choice import TierOrders
from engine.simulation.agenda import Agenda
from engine.simulation.replica import Replica, Shape
from engine.simulation.shared_engine import Costs, Request
from engine.types import CacheOutcome, VersionId


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace: when it comes, in seconds, and how many tokens it is to generate."""

    at: float
    adapter: VersionId
    tokens: int = 1
    prompt_tokens: int = 0

    def request(self, number: int) -> Request:
        return Request(number, self.adapter, self.tokens, self.at, self.prompt_tokens)


@dataclass(frozen=True, slots=True)
class Replayed:
    """All requests in order of arrival, with what became of them."""

    requests: list[Request]
    loads: int
    """From disk to host memory."""
    activations: int
    """From host memory into a slot."""

    @property
    def served(self) -> list[Request]:
        """Those for adapters that got a slot."""
        return [request for request in self.requests if request.outcome is not None]

    @property
    def slot_hit_ratio(self) -> float:
        """Share of the served that found their adapter in a slot when they came."""
        found = [request.outcome for request in self.served]
        return found.count(CacheOutcome.GPU_HIT) / max(len(found), 1)

    @property
    def memory_hit_ratio(self) -> float:
        """Share of the served that found their adapter in a slot or in host memory."""
        found = [request.outcome for request in self.served]
        return 1 - found.count(CacheOutcome.MISS) / max(len(found), 1)

    @property
    def waits(self) -> list[float]:
        """Seconds that each of the served waited for its slot."""
        return [r.granted_at - r.arrived_at for r in self.served if r.granted_at is not None]

    @property
    def first_tokens(self) -> list[float]:
        """Seconds until the first token of each of the served."""
        return [
            r.first_token_at - r.arrived_at for r in self.served if r.first_token_at is not None
        ]


def replay(
    arrivals: Iterable[Arrival],
    costs: Costs,
    shape: Shape,
    *,
    orders: TierOrders | None = None,
    sizes: Mapping[VersionId, int] | None = None,
    agenda: Agenda | None = None,
) -> Replayed:
    """Serve the trace, which has to be in order of time; it is read as far as time has come.

    `orders`: empty, and not shared; None: the server's default. `sizes`: of the adapters,
    in bytes. `agenda`: the virtual clock, if the orders read it too.
    """
    agenda = agenda or Agenda()
    replica = Replica("one", agenda, costs, shape, orders=orders, sizes=sizes)
    requests: list[Request] = []
    coming = iter(arrivals)

    def expect_next() -> None:
        arrival = next(coming, None)
        if arrival is not None:
            request = arrival.request(len(requests))
            requests.append(request)
            agenda.at(arrival.at, lambda: arrive(request))

    def arrive(request: Request) -> None:
        replica.take(request)
        expect_next()

    expect_next()
    agenda.run()
    return Replayed(requests, replica.loads, replica.activations)
