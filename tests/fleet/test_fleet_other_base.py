"""A fleet serves, loads and pins nothing of another base model, even one of equal shape."""

import asyncio

import pytest

from registry.inspection.base_identity import BaseIdentity
from tests.fleet.conftest import ServedFleet
from tests.support.servers.other_base import OTHERS, register_for

pytestmark = [pytest.mark.servers("fleet")]


@pytest.mark.parametrize("base", OTHERS, ids=["instruct", "revision"])
def test_what_belongs_to_another_base_model_reaches_no_replica(
    fleet: ServedFleet, base: BaseIdentity
) -> None:
    name = f"other-{base.name.partition('@')[0]}"
    assert fleet.database is not None
    registering = register_for(
        base, name, "upper", database_url=fleet.database, store=fleet.folder / "store"
    )
    reference = asyncio.run(registering)
    for text in (name, reference, f"{name}@default"):
        refused = fleet.complete(text)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
    assert name not in {model["id"] for model in fleet.client.get("/v1/models").json()["data"]}
    for path in ("pins", "prefetch"):
        answer = fleet.client.post(f"/api/v1/cache/{path}", json={"reference": reference})
        assert (answer.status_code, answer.json()["code"]) == (409, "other_base_model")
    alias = f"/api/v1/adapters/{name}/aliases/prod"
    moved = fleet.client.put(alias, json={"version": 1, "warm": True})
    assert (moved.status_code, moved.json()["code"]) == (409, "other_base_model")
    assert name not in fleet.residents("host")
    fleet.register("upper")
    assert fleet.answers_right("upper")
