"""The registry over REST: publishing, resolving, aliases, pages, and every refusal once."""

import asyncio

import httpx
import pytest

from registry.database.pagination import token_after
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, publish, resolved

pytestmark = pytest.mark.both_databases


async def test_publishing_reports_what_was_found(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a", rank=4)
    response = await publish(client, "bot", source)
    assert response.status_code == 201
    version = response.json()
    assert version["reference"] == "bot:1"
    assert version["rank"] == 4
    assert version["alpha"] == 8
    assert version["target_modules"] == ["q_proj"]
    assert version["dtype"] == "float32"
    assert version["base_model"] == "tiny"
    assert version["state"] == "ready"
    assert version["source"] == str(source)
    assert len(version["digest"]) == 64
    assert version["size_bytes"] > 2 * 4 * 8 * 4
    shown = await client.get("/adapters/bot/versions/1")
    assert shown.json() == version


async def test_the_same_content_again_is_the_same_version(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    first = await publish(client, "bot", make_adapter("a"))
    again = await publish(client, "bot", make_adapter("copy"))
    assert again.status_code == 200
    assert again.json() == first.json()
    other_name = await publish(client, "other", make_adapter("third"))
    assert other_name.status_code == 201
    assert other_name.json()["digest"] == first.json()["digest"]


async def test_references_mean_what_they_say(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for n in range(3):
        await publish(client, "bot", make_adapter(f"a{n}", seed=n))

    assert await resolved(client, "bot") == 1, "only the first becomes the default automatically"
    assert await resolved(client, "bot:3") == 3
    await client.put("/adapters/bot/aliases/prod", json={"version": 2})
    await client.put("/adapters/bot/aliases/default", json={"version": 3})
    assert await resolved(client, "bot@prod") == 2
    assert await resolved(client, "bot@default") == await resolved(client, "bot") == 3


async def test_aliases_move_by_compare_and_set(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for n in range(2):
        await publish(client, "bot", make_adapter(f"a{n}", seed=n))
    url = "/adapters/bot/aliases/prod"
    made = await client.put(url, json={"version": 1, "expected_version": None})
    assert made.status_code == 200
    assert made.json()["reference"] == "bot@prod"
    again = await client.put(url, json={"version": 1, "expected_version": None})
    assert_problem(again, 409, "alias_moved")
    assert_problem(
        await client.put(url, json={"version": 2, "expected_version": 2}), 409, "alias_moved"
    )
    moved = await client.put(url, json={"version": 2, "expected_version": 1, "reason": "better"})
    assert moved.json()["version"] == 2
    listed = (await client.get("/adapters/bot/aliases")).json()["items"]
    assert [(a["alias"], a["version"]) for a in listed] == [("default", 1), ("prod", 2)]


async def test_every_change_leaves_an_event(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish(client, "bot", make_adapter("a"))
    await publish(client, "bot", make_adapter("b", seed=1))
    await client.put("/adapters/bot/aliases/default", json={"version": 2, "reason": "better"})
    events = (await client.get("/adapters/bot/events")).json()["items"]
    recorded = [
        (e["kind"], e["alias"], e["from_version"], e["to_version"], e["reason"]) for e in events
    ]
    assert recorded == [
        ("version.registered", None, None, 1, None),
        ("alias.moved", "default", None, 1, "first version"),
        ("version.registered", None, None, 2, None),
        ("alias.moved", "default", 1, 2, "better"),
    ]


async def test_pages_are_stable_under_inserts(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for name in ("b", "d", "f"):
        await publish(client, name, make_adapter(name))
    first = (await client.get("/adapters", params={"limit": 2})).json()
    assert [a["name"] for a in first["items"]] == ["b", "d"]
    for name in ("a", "e"):
        await publish(client, name, make_adapter(name))
    token = {"limit": 2, "page_token": first["next_page_token"]}
    second = (await client.get("/adapters", params=token)).json()
    assert [a["name"] for a in second["items"]] == ["e", "f"]
    assert second["next_page_token"] is None


async def test_two_concurrent_registrations_get_consecutive_numbers(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    sources = [make_adapter(f"a{n}", seed=n) for n in range(8)]
    responses = await asyncio.gather(*(publish(client, "bot", s) for s in sources))
    assert [r.status_code for r in responses] == [201] * 8
    assert sorted(r.json()["number"] for r in responses) == list(range(1, 9))


async def test_the_same_content_concurrently_is_one_version(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    sources = [make_adapter(f"a{n}") for n in range(6)]
    responses = await asyncio.gather(*(publish(client, "bot", s) for s in sources))
    assert sorted(r.status_code for r in responses) == [200] * 5 + [201]
    assert {r.json()["reference"] for r in responses} == {"bot:1"}


async def test_what_can_be_asked_for_is_listed(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(client, "b", make_adapter("b"))
    await publish(client, "a", make_adapter("a"))
    await client.put("/adapters/a/aliases/prod", json={"version": 1})
    listed = await service.catalog.served_references()
    assert [served.reference for served in listed] == ["a", "a@prod", "b"]


async def test_a_change_is_a_new_generation(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    before = service.catalog.change_count
    await client.get("/adapters")
    assert service.catalog.change_count == before
    await publish(client, "a", make_adapter("a"))
    assert service.catalog.change_count > before


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("method", "path", "json", "status", "code"),
    [
        ("GET", "/adapters/nobody", None, 404, "unknown_adapter"),
        ("GET", "/adapters/nobody/versions", None, 404, "unknown_adapter"),
        ("GET", "/adapters/nobody/aliases", None, 404, "unknown_adapter"),
        ("GET", "/adapters/bot/versions/9", None, 404, "unknown_version"),
        ("GET", "/adapters/bot/versions/0", None, 422, "invalid_request"),
        ("GET", "/resolve?reference=bot@beta", None, 404, "unknown_alias"),
        ("GET", "/resolve?reference=bot:9", None, 404, "unknown_version"),
        ("GET", "/resolve?reference=No/Way", None, 400, "invalid_reference"),
        ("GET", "/resolve", None, 422, "invalid_request"),
        ("GET", "/adapters?page_token=nonsense", None, 400, "invalid_page_token"),
        ("GET", f"/adapters?page_token={token_after('a b')}", None, 400, "invalid_page_token"),
        ("GET", f"/versions?page_token={token_after(2**31)}", None, 400, "invalid_page_token"),
        ("GET", "/adapters/a%00b", None, 400, "invalid_reference"),
        ("GET", "/adapters/bot/aliases/%00", None, 400, "invalid_reference"),
        ("GET", "/resolve?reference=a%00b", None, 400, "invalid_reference"),
        ("GET", "/resolve?reference=bot&user=a%00b", None, 422, "invalid_request"),
        ("GET", "/adapters/bot/versions?page_token=!!", None, 400, "invalid_page_token"),
        ("GET", "/adapters?limit=0", None, 422, "invalid_request"),
        ("POST", "/adapters/bot/versions", {}, 422, "invalid_request"),
        ("POST", "/adapters/bot/versions", {"source": "x", "y": 1}, 422, "invalid_request"),
        ("POST", "/adapters/bot/versions", {"source": "/etc"}, 403, "source_not_allowed"),
        ("POST", "/adapters/bot/versions", {"source": "missing"}, 404, "source_not_found"),
        ("POST", "/adapters/Bot/versions", {"source": "a"}, 400, "invalid_reference"),
        ("POST", "/adapters/tiny/versions", {"source": "a"}, 409, "name_reserved"),
        ("PUT", "/adapters/bot/aliases/x", {"version": 9}, 404, "unknown_version"),
        ("PUT", "/adapters/bot/aliases/X", {"version": 1}, 400, "invalid_reference"),
        ("PUT", "/adapters/bot/aliases/x", {"version": "one"}, 422, "invalid_request"),
        ("PUT", "/adapters/nobody/aliases/x", {"version": 1}, 404, "unknown_adapter"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    method: str,
    path: str,
    json: object,
    status: int,
    code: str,
) -> None:
    await publish(client, "bot", make_adapter("a"))
    assert_problem(await client.request(method, path, json=json), status, code)


async def test_a_broken_adapter_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a", rank=17)
    assert_problem(await publish(client, "bot", source), 422, "rank_too_large")
    assert_problem(await client.get("/adapters/bot"), 404, "unknown_adapter")
