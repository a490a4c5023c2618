"""The simulated fleet: its engine against calculated times, and its invariants."""

import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from benchmarks.scale.by_rank import Fleet
from benchmarks.scale.live import compare
from benchmarks.scale.routers import ROUTERS, Picture, Ranks, ours
from benchmarks.scale.sim import Result, Workload, named, simulate
from engine.simulation.agenda import Agenda
from engine.simulation.replica import Replica, Shape
from engine.simulation.shared_engine import BASE_MODEL, Costs, Request, SharedEngine
from engine.types import CacheOutcome, VersionId
from fleet.placement import Bound

COSTS = Costs(
    step_seconds=1.0,
    step_seconds_per_request=0.5,
    prefill_seconds=2.0,
    load_seconds=10.0,
    activate_seconds=0.25,
    max_running=2,
)
QUICK = Costs(0.0125, 0.00015, 0.018, 0.08, 0.0022)
A, B = VersionId(1), VersionId(2)


def asked(number: int, tokens: int, at: float = 0.0, adapter: VersionId = A) -> Request:
    return Request(number, adapter, tokens, at)


def test_requests_share_the_steps_of_an_engine() -> None:
    """The first runs alone from 2 s on, with steps of 1.5 s: two tokens by 5 s. The second one's
    prompt takes until 7 s; then steps take 2 s: the second has its two tokens at 11 s, the first
    two of its five more, and the last one after 1.5 s."""
    agenda, ended = Agenda(), list[Request]()
    engine = SharedEngine(agenda, COSTS, ended.append)
    first, second = asked(1, 5), asked(2, 2)
    agenda.at(0.0, partial(engine.add, first))
    agenda.at(5.0, partial(engine.add, second))
    agenda.run()
    assert ended == [second, first]
    assert (first.first_token_at, second.first_token_at) == (3.5, 9.0)
    assert (second.ended_at, first.ended_at) == (11.0, 12.5)


def test_a_full_engine_starts_the_next_request_when_one_ends() -> None:
    agenda, ended = Agenda(), list[Request]()
    engine = SharedEngine(agenda, COSTS, ended.append)
    requests = [asked(number, 1) for number in range(3)]
    for request in requests:
        engine.add(request)
    agenda.run()
    assert [request.ended_at for request in requests] == [6.0, 6.0, 9.5]
    assert requests[2].first_token_at == 9.5


def test_each_further_adapter_in_a_step_takes_its_time_and_the_base_model_none() -> None:
    """All begin together, and a step is as long as it is for those that still run."""
    costs = Costs(0.02, 0.0, 0.0, 0.0, 0.0, step_seconds_per_adapter=0.005)

    def ended(*trace: tuple[VersionId, int]) -> list[float | None]:
        agenda = Agenda()
        engine = SharedEngine(agenda, costs, lambda request: None)
        requests = [asked(n, tokens, adapter=version) for n, (version, tokens) in enumerate(trace)]
        for request in requests:
            engine.add(request)
        agenda.run()
        return [each.ended_at for each in requests]

    assert ended((A, 3), (A, 3)) == pytest.approx([0.06, 0.06])
    assert ended((BASE_MODEL, 3), (A, 3)) == pytest.approx([0.06, 0.06])
    assert ended((A, 3), (B, 3)) == pytest.approx([0.075, 0.075])
    assert ended((A, 3), (B, 3), (B, 2)) == pytest.approx([0.075, 0.075, 0.05])
    assert ended((A, 3), (B, 1)) == pytest.approx([0.025 + 2 * 0.02, 0.025])


def test_a_cold_adapter_costs_its_load_and_its_copy_and_the_next_request_neither() -> None:
    agenda = Agenda()
    replica = Replica("one", agenda, COSTS, Shape(slots=1, host_capacity=2))
    cold, warm, other, back = (
        asked(1, 1),
        asked(2, 1, 20.0),
        asked(3, 1, 40.0, B),
        asked(4, 1, 60.0),
    )
    for request in (cold, warm, other, back):
        agenda.at(request.arrived_at, partial(replica.take, request))
    agenda.run()
    outcomes = [request.outcome for request in (cold, warm, other, back)]
    assert outcomes == [
        CacheOutcome.MISS,
        CacheOutcome.GPU_HIT,
        CacheOutcome.MISS,
        CacheOutcome.HOST_HIT,
    ]
    assert cold.first_token_at == 10.0 + 0.25 + 2.0 + 1.5
    assert warm.first_token_at == 20.0 + 2.0 + 1.5
    assert back.first_token_at == 60.0 + 0.25 + 2.0 + 1.5
    assert (replica.loads, replica.load) == (2, 0)
    replica.policy.check()


def test_a_request_that_waits_for_a_hot_slot_is_served() -> None:
    agenda = Agenda()
    shape = Shape(slots=1, host_capacity=2)
    replica = Replica("one", agenda, QUICK, shape)
    for n in range(2000):  # always several of A
        request = asked(n, 100, 0.05 * n)
        agenda.at(request.arrived_at, partial(replica.take, request))
    cold = asked(9999, 1, 10.0, B)
    agenda.at(10.0, partial(replica.take, cold))
    agenda.run()
    assert cold.first_token_at is not None
    assert cold.first_token_at < 30.0, "and not after all of A"
    assert replica.load == 0


@pytest.mark.parametrize("routing", ROUTERS)
def test_all_requests_complete_and_a_seed_is_reproducible(routing: str) -> None:
    workload = Workload(adapters=60, rate=20.0, seconds=20.0)
    shape = Shape(slots=4, host_capacity=12)
    run = partial(simulate, routing, named(3), workload, QUICK, shape, 0.5)
    result = run()
    assert result == run()
    assert result.requests > 200
    assert 0 < result.good <= result.requests
    assert result.in_slot <= result.in_memory < result.requests
    assert 0 < result.loads <= result.requests


def test_our_routing_keeps_its_bound_and_loads_less_than_one_without_residency() -> None:
    workload = Workload(adapters=100, rate=16.0, seconds=15.0)
    shape = Shape(slots=4, host_capacity=12)
    loads = {
        routing: simulate(routing, named(4), workload, QUICK, shape, 0.5).loads
        for routing in ("ours", "random", "least loaded")
    }
    assert loads["ours"] < 0.7 * min(loads["random"], loads["least loaded"])


def test_slots_by_rank_serve_more_in_the_same_memory() -> None:
    workload = Workload(adapters=100, rate=16.0, seconds=15.0)
    alike, by_rank = (
        simulate("ours", named(4), workload, QUICK, fleet.shapes(), 0.5, ranks=ranks)
        for fleet in (Fleet("alike", 4, 0), Fleet("by rank", 4, 3))
        for ranks in [Ranks(fleet.max_ranks, lambda adapter: 8 if adapter % 8 else 64)]
    )
    assert alike.requests == by_rank.requests
    assert by_rank.in_slot > 1.2 * alike.in_slot


def test_our_routing_sends_a_large_rank_only_where_it_fits() -> None:
    agenda = Agenda()
    fleet = [Replica(f"{n}", agenda, QUICK, Shape(2, 4)) for n in range(3)]
    ranks = Ranks([8, 8, 64], lambda adapter: 64 if adapter == A else 8)
    picture = Picture(agenda, fleet, every_seconds=1.0, ranks=ranks)
    route = ours(picture)
    for number in range(20):
        fleet[index := route(A)].take(asked(number, 1))
        assert index == 2
    assert route(B) in (0, 1)
    picture.closed = True
    agenda.run()


def test_our_routing_chooses_a_replica_within_its_bound() -> None:
    agenda, chance = Agenda(), random.Random(3)
    fleet = [Replica(f"{n}", agenda, QUICK, Shape(2, 4)) for n in range(5)]
    picture = Picture(agenda, fleet, every_seconds=1.0)
    route = ours(picture, chance, bound := Bound(slack=2))
    for number in range(300):
        loads = picture.loads()
        request = asked(number, 1, adapter=VersionId(1 + min(int(chance.expovariate(0.3)), 9)))
        index = route(request.adapter)
        assert loads[index] <= bound.most(loads)
        fleet[index].take(request)
    picture.closed = True
    agenda.run()
    assert [replica.load for replica in fleet] == [0] * 5


@pytest.mark.parametrize(
    ("changed", "agree"),
    [
        ({}, True),
        ({"loads": 102}, True),
        ({"loads": 104}, False),
        ({"in_slot": 409}, True),
        ({"in_slot": 412}, False),
        ({"in_memory": 888}, False),
    ],
)
def test_a_simulation_agrees_within_its_limits(changed: dict[str, Any], agree: bool) -> None:
    seconds = tuple(n / 1000 for n in range(100))
    real = Result(
        requests=1000,
        good=990,
        seconds=60.0,
        first_tokens=seconds,
        in_slot=400,
        in_memory=900,
        loads=100,
        busiest=1.0,
    )
    assert compare(real, replace(real, **changed)) is agree
