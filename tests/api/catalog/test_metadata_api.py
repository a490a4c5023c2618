"""What is said of adapters and versions over REST: kept, merged, limited, and traced back."""

import json
from typing import Any

import httpx
import pytest

from tests.api.helpers import AdapterMaker, assert_problem, kinds, publish, publish_some

pytestmark = pytest.mark.both_databases

DETAILS = {
    "description": "Polite answers",
    "tags": ["lang:fr", "exp-7"],
    "metadata": {"accuracy": 0.91, "run": {"seed": 3}},
    "training_run": "runs/2026-11-20",
    "dataset": "tickets-2026q3",
}


async def patched(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    response = await client.patch(path, json=fields)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    assert (await client.get(path)).json() == content
    return content


async def test_a_version_is_described_when_it_is_registered(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "base", 1)
    response = await publish(client, "bot", make_adapter("a", seed=9), parent="base:1", **DETAILS)
    version = response.json()
    assert version["tags"] == ["exp-7", "lang:fr"]
    assert version["parent"] == "base:1"
    for field in ("description", "metadata", "training_run", "dataset"):
        assert version[field] == DETAILS[field]
    assert (await client.get("/adapters/bot/versions/1")).json() == version
    assert (await client.get("/adapters/bot")).json()["description"] == "Polite answers"
    again = await publish(client, "bot", make_adapter("b", seed=9), description="Other words")
    assert again.json() == version, "what exists is not changed by registering it again"


async def test_a_version_is_described_later(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    path = "/adapters/bot/versions/2"
    before = (await client.get(path)).json()
    after = await patched(client, path, parent="bot:1", **DETAILS)
    unchanged = before.keys() - DETAILS.keys() - {"parent", "updated_at"}
    assert {key: after[key] for key in unchanged} == {key: before[key] for key in unchanged}
    assert after["updated_at"] is not None
    cleared = await patched(client, path, description=None, parent=None, dataset=None)
    assert cleared["description"] is cleared["parent"] is cleared["dataset"] is None
    assert cleared["training_run"] == DETAILS["training_run"]


async def test_an_adapter_has_an_owner_tags_and_metadata(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    path = "/adapters/bot"
    await patched(client, path, owner="team-a", description="Bot", tags=["x", "y"])
    adapter = await patched(client, path, add_tags=["z", "x"], remove_tags=["y", "none"])
    assert (adapter["owner"], adapter["tags"]) == ("team-a", ["x", "z"])
    assert (await client.get("/adapters")).json()["items"] == [adapter]
    assert (await patched(client, path, tags=[]))["tags"] == []


async def test_metadata_is_merged_key_by_key(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    path = "/adapters/bot"
    await patched(client, path, metadata={"a": 1, "b": {"c": [True, None, "ü"]}})
    adapter = await patched(client, path, metadata={"a": None, "d": 1.5})
    assert adapter["metadata"] == {"b": {"c": [True, None, "ü"]}, "d": 1.5}


async def test_an_event_names_what_changed_and_nothing_is_no_event(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    before = await kinds(client, "bot")
    await patched(client, "/adapters/bot", owner="team-a", metadata={"a": 1})
    await patched(client, "/adapters/bot", owner="team-a", metadata={"a": 1}, tags=[])
    await patched(client, "/adapters/bot")
    await patched(client, "/adapters/bot/versions/1", tags=["x"], dataset="d")
    await patched(client, "/adapters/bot/versions/1", add_tags=["x"])
    events = (await client.get("/adapters/bot/events")).json()["items"][len(before) :]
    assert [(e["kind"], e["to_version"], e["reason"]) for e in events] == [
        ("adapter.updated", None, "metadata, owner"),
        ("version.updated", 1, "dataset, tags"),
    ]


async def test_a_version_never_descends_from_itself(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    await patched(client, "/adapters/bot/versions/2", parent="bot:1")
    await patched(client, "/adapters/bot/versions/3", parent="bot:2")
    for ancestor, descendant in ((1, 1), (1, 2), (1, 3)):
        body = {"parent": f"bot:{descendant}"}
        response = await client.patch(f"/adapters/bot/versions/{ancestor}", json=body)
        assert_problem(response, 409, "lineage_cycle")
    made_from_2 = await client.get("/versions", params={"parent": "bot:2"})
    assert [v["reference"] for v in made_from_2.json()["items"]] == ["bot:3"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"digest": "0"}, 422, "invalid_request"),
        ({"tags": ["two words"]}, 422, "invalid_request"),
        ({"tags": ["a,b"]}, 422, "invalid_request"),
        ({"tags": [""]}, 422, "invalid_request"),
        ({"tags": [f"t{n}" for n in range(65)]}, 422, "invalid_request"),
        ({"tags": ["x" * 65]}, 422, "invalid_request"),
        ({"description": "x" * 4097}, 422, "invalid_request"),
        ({"description": "\0"}, 422, "invalid_request"),
        ({"metadata": []}, 422, "invalid_request"),
        ({"metadata": {"": 1}}, 422, "invalid_request"),
        ({"metadata": {"a": ["\0"]}}, 422, "invalid_request"),
        ({"metadata": {"a": "x" * 20_000}}, 413, "metadata_too_large"),
        ({"parent": "bot"}, 400, "invalid_reference"),
        ({"parent": "nobody:1"}, 404, "unknown_adapter"),
        ({"parent": "bot:9"}, 404, "unknown_version"),
    ],
)
async def test_refused_descriptions(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    fields: dict[str, object],
    status: int,
    code: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    before = (await client.get("/adapters/bot/versions/1")).json()
    response = await client.patch("/adapters/bot/versions/1", json=fields)
    assert_problem(response, status, code)
    assert (await client.get("/adapters/bot/versions/1")).json() == before
    source = make_adapter("new", seed=5)
    response = await publish(client, "bot", source, **fields)
    assert_problem(response, status, code)
    assert len((await client.get("/adapters/bot/versions")).json()["items"]) == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": 1e999}}',
        b'{"metadata": {"a": "\\ud800"}}',
        b'{"metadata": {"\\ud800": 1}}',
        b'{"description": "\\udfff"}',
        b'{"metadata": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}",
        b'{"metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"metadata": {"a": ' + b"9" * 10_000 + b"}}",
        b'{"metadata": {"a": ',
        b"\xff\xfe",
        b"[]",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
async def test_json_that_could_not_be_read_back_is_refused(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, body: bytes
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    headers = {"content-type": "application/json"}
    response = await client.patch("/adapters/bot", content=body, headers=headers)
    assert_problem(response, 400 if len(body) > 1000 else 422, "invalid_request")
    assert (await client.get("/adapters/bot")).json()["metadata"] == {}


async def test_metadata_adds_up_to_its_limit(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    half = {"a": "x" * 9_000}
    await patched(client, "/adapters/bot", metadata=half)
    response = await client.patch("/adapters/bot", json={"metadata": {"b": "x" * 9_000}})
    assert_problem(response, 413, "metadata_too_large")
    assert json.loads((await client.get("/adapters/bot")).text)["metadata"] == half
    for n in range(2):
        tags = [f"t{n}{m}" for m in range(40)]
        response = await client.patch("/adapters/bot", json={"add_tags": tags})
    assert_problem(response, 413, "metadata_too_large")
