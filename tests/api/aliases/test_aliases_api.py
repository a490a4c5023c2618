"""Aliases over REST: splits, rollbacks, and what they meant at any time."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest

from engine.resolver import RegistryResolver
from registry.aliases.service import AliasService
from registry.errors import TooManyAliases
from registry.models import AliasHistory, now
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, kinds, publish_some, resolved, step

pytestmark = pytest.mark.both_databases

PROD = "/adapters/bot/aliases/prod"


async def put(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.put(PROD, json=body)
    assert response.status_code == 200, response.text
    state: dict[str, Any] = response.json()
    return state


async def split(client: httpx.AsyncClient, weights: dict[int, int]) -> dict[str, Any]:
    return await put(client, weights=[{"version": v, "weight": w} for v, w in weights.items()])


async def roll_back(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(f"{PROD}/rollback", json=body)
    assert response.status_code == 200, response.text
    state: dict[str, Any] = response.json()
    return state


async def history(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(f"{PROD}/history")).json()["items"]
    return items


async def shares(
    client: httpx.AsyncClient, users: list[str], reference: str = "bot@prod"
) -> dict[str, int]:
    """Which version each user gets."""
    found = {}
    for user in users:
        response = await client.get("/resolve", params={"reference": reference, "user": user})
        found[user] = response.json()["number"]
    return found


async def test_the_past_of_an_alias_is_one_question(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    times = [datetime.now(UTC)]
    for version in (1, 2, 3):
        await put(client, version=version, reason=f"try {version}")
        await asyncio.sleep(0.002)
        times.append(datetime.now(UTC))
    for at, version in zip(times[1:], (1, 2, 3), strict=True):
        response = await client.get(PROD, params={"at": at.isoformat()})
        state = response.json()
        assert (state["version"], state["reason"]) == (version, f"try {version}")
        assert state["valid_from"] <= at.isoformat().replace("+00:00", "Z")
    assert_problem(
        await client.get(PROD, params={"at": times[0].isoformat()}), 404, "unknown_alias"
    )
    current = (await client.get(PROD)).json()
    assert (current["version"], current["valid_to"], current["revision"]) == (3, None, 3)


async def test_the_end_of_one_state_is_the_beginning_of_the_next(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    for version in (1, 2, 1, 2):
        await put(client, version=version)
    states = await history(client)
    assert [s["version"] for s in states] == [2, 1, 2, 1]
    assert [s["revision"] for s in states] == [4, 3, 2, 1]
    assert states[0]["valid_to"] is None
    for newer, older in pairwise(states):
        assert older["valid_to"] == newer["valid_from"] > older["valid_from"]
        at_the_seam = await client.get(PROD, params={"at": newer["valid_from"]})
        assert at_the_seam.json()["revision"] == newer["revision"]


async def test_states_never_overlap_when_the_clock_goes_back(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await put(client, version=1)
    ahead = now() + timedelta(hours=1)
    async with service._database.transaction() as session:
        row = await session.get(AliasHistory, (1, "prod", 1, 1))
        assert row is not None
        row.valid_from = ahead
    second = await put(client, version=2)
    assert datetime.fromisoformat(second["valid_from"]) > ahead


async def test_history_has_pages_and_outlives_the_alias(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    for version in (1, 2, 1):
        before = datetime.now(UTC)
        moved = await put(client, version=version)
        assert datetime.fromisoformat(moved["valid_from"]) >= before
    late = await client.delete(PROD, params={"expected_version": 2})
    assert_problem(late, 409, "alias_moved")
    assert (await client.delete(PROD, params={"expected_version": 1})).status_code == 204
    assert_problem(await client.get(PROD), 404, "unknown_alias")
    assert_problem(await client.delete(PROD), 404, "unknown_alias")
    first = (await client.get(f"{PROD}/history", params={"limit": 2})).json()
    assert [s["revision"] for s in first["items"]] == [3, 2]
    assert first["items"][0]["valid_to"] is not None
    token = {"limit": 2, "page_token": first["next_page_token"]}
    await put(client, version=2)  # newer than the first page, so not on the second
    second = (await client.get(f"{PROD}/history", params=token)).json()
    assert [s["revision"] for s in second["items"]] == [1]
    assert second["next_page_token"] is None
    assert (await client.get(PROD)).json()["revision"] == 4
    assert_problem(await client.get("/adapters/bot/aliases/no/history"), 404, "unknown_alias")


async def test_a_rollback_brings_back_any_state_with_its_weights(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    await put(client, version=1)
    await split(client, {1: 9, 2: 1})
    await asyncio.sleep(0.002)
    at_the_split = datetime.now(UTC).isoformat()
    await put(client, version=3)
    back = await roll_back(client)
    assert back["weights"] == [{"version": 1, "weight": 9}, {"version": 2, "weight": 1}]
    assert (back["revision"], back["reason"]) == (4, "rolled back to revision 2")
    assert (await roll_back(client, revision=1, reason="calm"))["weights"] == [
        {"version": 1, "weight": 1}
    ]
    assert (await roll_back(client, at=at_the_split))["weights"] == back["weights"]
    assert (await roll_back(client, revision=3, expected_version=1))["version"] == 3
    assert len(await history(client)) == 7


async def test_rolling_back_twice_is_where_it_began(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await put(client, version=1)
    await put(client, version=2)
    assert [(await roll_back(client))["version"] for _ in range(3)] == [1, 2, 1]


async def test_a_rollback_passes_over_states_like_the_present_one(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await put(client, version=1)
    await put(client, version=2)
    await client.delete(PROD)
    await put(client, version=2)
    assert (await roll_back(client))["version"] == 1


async def test_a_rollback_undoes_a_deletion(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await put(client, version=2)
    await client.delete(PROD)
    assert (await roll_back(client, expected_version=None))["version"] == 2
    assert await resolved(client, "bot@prod") == 2


async def test_a_rollback_to_what_is_not_served_any_more_is_refused(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    await put(client, version=1)
    await put(client, version=2)
    await step(client, "bot:1", "retire")
    response = await client.post(f"{PROD}/rollback")
    assert_problem(response, 409, "version_not_servable")
    assert await resolved(client, "bot@prod") == 2


async def test_pointing_it_where_it_points_changes_nothing(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    once = await split(client, {1: 1, 2: 3})
    before = await kinds(client, "bot")
    assert await split(client, {2: 3, 1: 1}) == once
    assert await kinds(client, "bot") == before


async def test_each_change_is_an_event_of_its_kind(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await put(client, version=1)
    await split(client, {1: 1, 2: 3})
    await roll_back(client)
    await client.delete(PROD, params={"reason": "no more"})
    events = (await client.get("/adapters/bot/events")).json()["items"][3:]
    assert [(e["kind"], e["from_version"], e["to_version"], e["reason"]) for e in events] == [
        ("alias.moved", None, 1, None),
        ("alias.split", 1, 2, None),
        ("alias.moved", 2, 1, "rolled back to revision 1"),
        ("alias.deleted", 1, None, "no more"),
    ]


async def test_users_of_a_split_alias_stay_with_their_version(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await split(client, {1: 80, 2: 20})
    users = [f"user-{n}" for n in range(300)]
    before = await shares(client, users)
    assert await shares(client, users) == before
    assert 36 <= Counter(before.values())[2] <= 84, "60 are expected; this is 3.5 deviations"
    await split(client, {1: 70, 2: 30})
    after = await shares(client, users)
    moved = {user for user in users if before[user] != after[user]}
    assert 0 < len(moved) < 60, "30 are expected"
    assert all(after[user] == 2 for user in moved), "a user left the version that gains"
    assert await resolved(client, "bot@prod") == 1, "without a user, the main version"


async def test_the_engine_asks_for_the_user_of_a_split_alias_only(
    service: RegistryService, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    resolver = RegistryResolver(service.catalog)

    def nobody() -> str:
        raise AssertionError("asked for a user")

    assert (await resolver.resolve("bot", nobody)).number == 1
    await split(client, {1: 50, 2: 50})
    users = [f"user-{n}" for n in range(40)]
    expected = await shares(client, users)
    found = {user: await resolver.resolve("bot@prod", user.__str__) for user in users}
    assert {user: version.number for user, version in found.items()} == expected
    assert set(expected.values()) == {1, 2}
    await step(client, "bot:1", "deprecate", reason="old")
    deprecated = await resolver.resolve("bot:1")
    assert deprecated.deprecation_reason == "old"
    assert deprecated.deprecated_at == pytest.approx(datetime.now(UTC).timestamp(), abs=10)


async def test_compare_and_set_on_revisions_sees_changes_of_weights(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    seen = await split(client, {1: 9, 2: 1})
    await split(client, {1: 8, 2: 2})
    late = {"version": 2, "expected_version": 1, "expected_revision": seen["revision"]}
    assert_problem(await client.put(PROD, json=late), 409, "alias_moved")
    late["expected_revision"] += 1
    assert (await client.put(PROD, json=late)).status_code == 200


async def test_of_many_who_saw_the_same_state_one_moves_it(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 4)
    await put(client, version=1)
    aliases = AliasService(service._database)
    moves = [
        aliases.point("bot", "prod", {v: 1}, actor="test", expected_version=1) for v in (2, 3, 4)
    ]
    results = await asyncio.gather(*moves, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert len(await history(client)) == 2


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"version": 1, "weights": [{"version": 1, "weight": 1}]}, 422, "invalid_request"),
        ({"weights": []}, 422, "invalid_request"),
        ({"weights": [{"version": 1, "weight": 0}]}, 422, "invalid_request"),
        ({"weights": [{"version": 1, "weight": 10**7}]}, 422, "invalid_request"),
        ({"weights": [{"version": 1, "weight": 1}] * 2}, 422, "invalid_request"),
        ({"weights": [{"version": 9, "weight": 1}]}, 404, "unknown_version"),
        ({"version": 1, "reason": "\0"}, 422, "invalid_request"),
        ({"version": 2**31}, 422, "invalid_request"),
    ],
)
async def test_refused_moves(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    body: dict[str, object],
    status: int,
    code: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    assert_problem(await client.put(PROD, json=body), status, code)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"revision": 7}, 404, "unknown_revision"),
        ({"at": "2001-01-01T00:00:00Z"}, 404, "unknown_revision"),
        ({"at": "2001-01-01T00:00:00"}, 422, "invalid_request"),
        ({"at": "2001-01-01T00:00:00Z", "revision": 1}, 422, "invalid_request"),
        ({"expected_version": 2}, 409, "alias_moved"),
        ({}, 409, "nothing_to_roll_back"),
    ],
)
async def test_refused_rollbacks(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    body: dict[str, object],
    status: int,
    code: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    assert_problem(await client.post(f"{PROD}/rollback", json={}), 404, "unknown_alias")
    await put(client, version=1)
    assert_problem(await client.post(f"{PROD}/rollback", json=body), status, code)
    assert_problem(await client.get(PROD, params={"at": "yesterday"}), 422, "invalid_request")


async def test_an_adapter_has_so_many_aliases_at_most(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    """Those that it has can be moved, and one that was deleted leaves its place."""
    await publish_some(client, make_adapter, "bot", 2)
    aliases = AliasService(service._database, max_aliases=3)
    for alias in ("a", "b"):
        await aliases.point("bot", alias, {1: 1}, actor="test")
    with pytest.raises(TooManyAliases, match="more than 3 aliases") as refused:
        await aliases.point("bot", "c", {1: 1}, actor="test")
    assert (refused.value.status, refused.value.code) == (409, "too_many_aliases")
    await aliases.point("bot", "b", {2: 1}, actor="test")
    await aliases.delete("bot", "a", actor="test")
    await aliases.point("bot", "c", {1: 1}, actor="test")
    with pytest.raises(TooManyAliases):
        await aliases.point("bot", "a", {1: 1}, actor="test")
