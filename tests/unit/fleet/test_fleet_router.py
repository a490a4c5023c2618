"""Ray Serve's router with our choice in it: on its own classes, without a cluster."""

import asyncio
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

from engine.types import AdapterVersion
from fleet.messages import ForwardedRequest, Whereabouts
from fleet.placement import order
from fleet.ray.request_router import WHEREABOUTS, AdapterRouter
from tests.support.cache.controller_harness import A, B

DEPLOYMENT = DeploymentID("replica", "adaptry")
NAMES = ("one", "two", "three")


def replica(name: str, *, slots: tuple[AdapterVersion, ...] = (), up: bool = True) -> Any:
    where = Whereabouts(name, frozenset(v.id for v in slots), frozenset(v.id for v in slots), up)
    return SimpleNamespace(
        replica_id=ReplicaID(name, DEPLOYMENT),
        routing_stats={WHEREABOUTS: where},
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


async def asked(
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


async def test_it_goes_to_the_slot_unless_that_has_too_much_to_do(router: AdapterRouter) -> None:
    replicas = [replica("one"), replica("two", slots=(A,)), replica("three")]
    assert await asked(router, replicas, {"two": 4}, version=A) == "two"
    assert await asked(router, replicas, {"two": 50}, version=A) != "two"


async def test_what_is_nowhere_goes_where_its_name_says(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    for version in (A, B):
        assert (
            await asked(router, replicas, {}, version=version) == order(version.reference, NAMES)[0]
        )


async def test_a_sighting_is_as_good_as_host_memory(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    last = order(A.reference, NAMES)[-1]
    assert await asked(router, replicas, {}, version=A, near=frozenset({last})) == last
    replicas[NAMES.index(last) - 1] = replica(NAMES[NAMES.index(last) - 1], slots=(A,))
    assert await asked(router, replicas, {}, version=A, near=frozenset({last})) != last


async def test_the_base_model_goes_to_the_least_busy(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    assert await asked(router, replicas, {"one": 3, "two": 1, "three": 2}) == "two"


async def test_one_without_an_engine_or_that_failed_it_is_asked_last(
    router: AdapterRouter,
) -> None:
    replicas = [replica("one", slots=(A,), up=False), replica("two"), replica("three")]
    avoid = frozenset({"two"})
    assert await asked(router, replicas, {}, version=A, avoid=avoid) == "three"
    alone = [replica("one", up=False), replica("two", up=False)]
    assert await asked(router, alone, {}, version=A) in {"one", "two"}


async def test_nobody_to_route_is_left_to_ray(router: AdapterRouter) -> None:
    replicas = [replica(name) for name in NAMES]
    assert await router.choose_replicas(replicas, None) == [replicas]
    await asyncio.sleep(0)
