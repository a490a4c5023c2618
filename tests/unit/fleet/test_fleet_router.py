"""Ray Serve's router with our placement, on its own classes and without a cluster."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest

from benchmarks.scale.routers import SWITCH_VARIABLE
from benchmarks.scale.switched_router import SwitchedRouter
from engine.types import AdapterVersion
from fleet.messages import ForwardedRequest, ReplicaResidency
from fleet.placement import order
from fleet.ray.request_router import RESIDENCY, AdapterRouter
from tests.support.cache.controller_harness import A, B

DEPLOYMENT = DeploymentID("replica", "adaptry")
NAMES = ("one", "two", "three")


def replica(
    name: str, *, slots: tuple[AdapterVersion, ...] = (), up: bool = True, max_rank: int = 16
) -> Any:
    held = frozenset(version.id for version in slots)
    where = ReplicaResidency(name, slots=held, host=held, engine_up=up, max_rank=max_rank)
    return SimpleNamespace(
        replica_id=ReplicaID(name, DEPLOYMENT),
        routing_stats={RESIDENCY: where},
        max_ongoing_requests=1_000_000,
    )


@pytest.fixture
async def router() -> AdapterRouter:
    made = AdapterRouter(
        deployment_id=DEPLOYMENT,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    made.initialize_state(slack=4, share=1.25)
    return made


async def choose(
    router: AdapterRouter, replicas: list[Any], loads: dict[str, int], **request: Any
) -> str:
    for each in replicas:
        name = each.replica_id.unique_id
        router.replica_queue_len_cache.update(each.replica_id, loads.get(name, 0))
    forwarded = ForwardedRequest({}, b"", **request)
    metadata = RequestMetadata(request_id="r", internal_request_id="i")
    pending = PendingRequest(args=[forwarded], kwargs={}, metadata=metadata)
    ranks = await router.choose_replicas(replicas, pending)
    assert pending.routing_context.should_backoff
    return str(ranks[0][0].replica_id.unique_id)


async def test_a_request_goes_to_the_slot_unless_that_replica_is_overloaded(
    router: AdapterRouter,
) -> None:
    replicas = [replica("one"), replica("two", slots=(A,)), replica("three")]
    assert await choose(router, replicas, {"two": 4}, version=A) == "two"
    assert await choose(router, replicas, {"two": 50}, version=A) != "two"


async def test_an_adapter_that_no_replica_holds_goes_to_the_first_of_its_order(
    router: AdapterRouter,
) -> None:
    replicas = [replica(name) for name in NAMES]
    for version in (A, B):
        assert (
            await choose(router, replicas, {}, version=version)
            == order(version.reference, NAMES)[0]
        )


async def test_recent_residency_counts_as_host_memory(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    last = order(A.reference, NAMES)[-1]
    assert await choose(router, replicas, {}, version=A, near=frozenset({last})) == last
    replicas[NAMES.index(last) - 1] = replica(NAMES[NAMES.index(last) - 1], slots=(A,))
    assert await choose(router, replicas, {}, version=A, near=frozenset({last})) != last


async def test_the_base_model_goes_to_the_least_busy(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    assert await choose(router, replicas, {"one": 3, "two": 1, "three": 2}) == "two"


async def test_a_replica_without_an_engine_or_that_failed_the_request_is_chosen_last(
    router: AdapterRouter,
) -> None:
    replicas = [replica("one", slots=(A,), up=False), replica("two"), replica("three")]
    avoid = frozenset({"two"})
    assert await choose(router, replicas, {}, version=A, avoid=avoid) == "three"
    alone = [replica("one", up=False), replica("two", up=False)]
    assert await choose(router, alone, {}, version=A) in {"one", "two"}


async def test_a_rank_goes_only_to_a_replica_whose_slots_have_room_for_it(
    router: AdapterRouter,
) -> None:
    small, large = replica("one", max_rank=8), replica("two", max_rank=64)
    wide = replace(A, rank=16)
    assert await choose(router, [small, large], {"two": 50}, version=wide) == "two"
    assert await choose(router, [small, large], {}, version=A) == "one"
    held = replica("two", slots=(A,), max_rank=64)
    assert await choose(router, [small, held], {}, version=A) == "two"
    silent = replica("three")
    silent.routing_stats = {}
    assert await choose(router, [small, silent], {}, version=wide) == "three", "it may fit there"
    assert await choose(router, [silent, large], {"two": 9}, version=wide) == "two"


async def test_a_request_for_several_models_goes_where_the_largest_rank_fits(
    router: AdapterRouter,
) -> None:
    small, large = replica("one", max_rank=8), replica("two", max_rank=64)
    assert await choose(router, [small, large], {"two": 50}, rank=16) == "two"
    assert await choose(router, [small, large], {"two": 50}, rank=8) == "one"
    silent = replica("three")
    silent.routing_stats = {}
    assert await choose(router, [small, silent], {"one": 1}) == "three", "it asks for no rank"


async def test_without_a_request_all_replicas_are_left_to_ray(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    assert await router.choose_replicas(replicas, None) == [replicas]
    await asyncio.sleep(0)


async def test_a_switched_router_chooses_at_random_while_its_file_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That of the benchmark of routings."""
    switch = tmp_path / "switch"
    monkeypatch.setenv(SWITCH_VARIABLE, str(switch))
    switched = SwitchedRouter(
        deployment_id=DEPLOYMENT,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    switched.initialize_state(slack=4, share=1.25)
    replicas = [replica("one", slots=(A,)), replica("two"), replica("three")]
    pending = PendingRequest(
        args=[ForwardedRequest({}, b"", version=A)],
        kwargs={},
        metadata=RequestMetadata(request_id="r", internal_request_id="i"),
    )
    for each in replicas:
        switched.replica_queue_len_cache.update(each.replica_id, 0)

    async def chosen() -> set[str]:
        ranks = [await switched.choose_replicas(replicas, pending) for _ in range(60)]
        return {str(first[0][0].replica_id.unique_id) for first in ranks}

    assert await chosen() == {"one"}
    switch.touch()
    assert await chosen() == set(NAMES)
    switch.unlink()
    assert await chosen() == {"one"}


async def test_a_replica_that_failed_the_request_is_passed_over(router: AdapterRouter) -> None:
    """Though it holds the adapter; if it is the only one, it is asked again."""
    replicas = [replica("one", slots=(A,)), replica("two")]
    assert await choose(router, replicas, {}, version=A) == "one"
    assert await choose(router, replicas, {}, version=A, avoid=frozenset({"one"})) == "two"
    down = [replica("one", slots=(A,)), replica("two", up=False)]
    assert await choose(router, down, {}, version=A, avoid=frozenset({"one"})) == "one"


async def test_a_request_that_one_replica_can_answer_goes_to_no_other(
    router: AdapterRouter,
) -> None:
    """However busy it is; if it is not there, another one says so."""
    replicas = [replica("one"), replica("two", up=False), replica("three", slots=(A,))]
    assert await choose(router, replicas, {"two": 99}, version=A, only="two") == "two"
    assert await choose(router, replicas, {"two": 99}, only="two") == "two"
    assert await choose(router, replicas, {}, version=A, only="four") == "three"
