"""Prediction: a workload served by one setting, with the server's own policy and placement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from adaptry.sizing.workload import Workload
from engine.policy.eviction_orders.choice import TierOrders, create_orders
from engine.simulation.agenda import Agenda
from engine.simulation.replay import replay
from engine.simulation.replica import Replica, Shape
from engine.simulation.shared_engine import BASE_MODEL, Costs, Request
from engine.types import AdmissionLimits, CacheOutcome, EvictionPolicy, VersionId
from fleet.placement import Bound, Nearness, choose

DEFAULT_POLICY = EvictionPolicy.ADAPTIVE
"""That of `adaptry serve`."""


_BLOCKS = 20
_NINE_OF_TEN = 1.645  # standard deviations


@dataclass(frozen=True, slots=True)
class Setting:
    """What is chosen: slots and places of each of so many replicas."""

    slots: int
    host_places: int
    host_bytes: int | None = None
    replicas: int = 1
    max_loads: int = 2
    slot_wait_seconds: float = 2.0
    eviction_policy: EvictionPolicy = DEFAULT_POLICY

    def shape(self) -> Shape:
        limits = AdmissionLimits(max_slot_wait_seconds=self.slot_wait_seconds)
        return Shape(
            self.slots, self.host_places, self.max_loads, self.host_bytes, limits, whole_steps=True
        )

    def orders(self) -> TierOrders:
        """Those of one replica."""
        return create_orders(self.eviction_policy, per_byte=self.host_bytes is not None)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of the requests for adapters that count; loads and activations of all `arrivals`.

    Times in seconds; the range is that of `quantile_range`. A refused request has no first token,
    and is not within the goal.
    """

    setting: Setting
    arrivals: int
    requests: int
    refused: int
    slot_hit_ratio: float
    memory_hit_ratio: float
    loads: int
    activations: int
    first_token_p50: float
    first_token_p99: float
    first_token_p99_range: tuple[float, float]
    wait_p50: float
    wait_p99: float
    share_within: float

    @property
    def loads_per_request(self) -> float:
        return self.loads / max(self.arrivals, 1)


def predict(
    workload: Workload,
    costs: Costs,
    setting: Setting,
    *,
    first_token_seconds: float,
    warm_share: float = 0.0,
) -> Prediction:
    """`first_token_seconds`: the goal. `warm_share`: of the time, from the beginning, whose
    requests are served but do not count."""
    requests, loads, activations = _serve(workload, costs, setting)
    warm = workload.seconds * warm_share
    for_adapters = [each for each in requests if each.adapter != BASE_MODEL]
    counted = [each for each in for_adapters if each.arrived_at >= warm]
    found = [each.outcome for each in counted if each.outcome is not None]
    firsts = [
        each.first_token_at - each.arrived_at for each in counted if each.first_token_at is not None
    ]
    waits = [each.granted_at - each.arrived_at for each in counted if each.granted_at is not None]
    in_slot = found.count(CacheOutcome.GPU_HIT)
    return Prediction(
        setting,
        arrivals=len(for_adapters),
        requests=len(counted),
        refused=sum(each.refused for each in counted),
        slot_hit_ratio=in_slot / max(len(found), 1),
        memory_hit_ratio=1 - found.count(CacheOutcome.MISS) / max(len(found), 1),
        loads=loads,
        activations=activations,
        first_token_p50=quantile(firsts, 0.5),
        first_token_p99=quantile(firsts, 0.99),
        first_token_p99_range=quantile_range(firsts, 0.99),
        wait_p50=quantile(waits, 0.5),
        wait_p99=quantile(waits, 0.99),
        share_within=sum(each <= first_token_seconds for each in firsts) / max(len(counted), 1),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def quantile_range(values: Sequence[float], share: float) -> tuple[float, float]:
    """Where that quantile is in nine of ten workloads of this kind. `values`: in order of arrival.

    As many exceed it as differ from part to part of the time, more than by chance alone: those that
    wait long do so together (Woodruff's interval, with the variance of blocks).
    """
    if not values:
        return 0.0, 0.0
    ordered, most = sorted(values), len(values) - 1
    at = min(most, int(share * len(values)))
    ends = [len(values) * n // _BLOCKS for n in range(_BLOCKS + 1)]
    blocks = (values[begin:end] for begin, end in pairwise(ends))
    counts = [sum(each >= ordered[at] for each in block) for block in blocks]
    mean = sum(counts) / _BLOCKS
    variance = sum((each - mean) ** 2 for each in counts) * _BLOCKS / (_BLOCKS - 1)
    off = math.ceil(_NINE_OF_TEN * math.sqrt(variance))
    return ordered[max(at - off, 0)], ordered[min(at + off, most)]


def _serve(workload: Workload, costs: Costs, setting: Setting) -> tuple[list[Request], int, int]:
    if setting.replicas == 1:
        sizes = workload.sizes or None
        shape, orders = setting.shape(), setting.orders()
        done = replay(workload.arrivals, costs, shape, orders=orders, sizes=sizes)
        return done.requests, done.loads, done.activations
    return _serve_by_replicas(workload, costs, setting)


def _serve_by_replicas(
    workload: Workload, costs: Costs, setting: Setting
) -> tuple[list[Request], int, int]:
    """Behind an ingress that always knows where each adapter is."""
    agenda, sizes = Agenda(), workload.sizes or None
    names = [f"replica-{n}" for n in range(setting.replicas)]
    shape = setting.shape()
    fleet = [
        Replica(name, agenda, costs, shape, orders=setting.orders(), sizes=sizes) for name in names
    ]
    bound = Bound()
    requests = [each.request(number) for number, each in enumerate(workload.arrivals)]
    coming = iter(requests)

    def expect_next() -> None:
        if (request := next(coming, None)) is not None:
            agenda.at(request.arrived_at, partial(arrive, request))

    def arrive(request: Request) -> None:
        loads = [replica.load for replica in fleet]
        if request.adapter == BASE_MODEL:
            fleet[loads.index(min(loads))].take(request)
            expect_next()
            return
        near = [_nearness(replica, request.adapter) for replica in fleet]
        fleet[choose(str(request.adapter), names, loads, near, bound)].take(request)
        expect_next()

    expect_next()
    agenda.run()
    return (
        requests,
        sum(replica.loads for replica in fleet),
        sum(replica.activations for replica in fleet),
    )


def _nearness(replica: Replica, adapter: VersionId) -> Nearness:
    policy = replica.policy
    if policy.can_lease(adapter):
        return Nearness.SLOT
    return Nearness.HOST if policy.is_held(adapter) else Nearness.DISK
