"""The list of models: OpenAI's shape, each adapter once and in order, a bounded part at a time."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from sqlalchemy import insert, update
from starlette.responses import StreamingResponse

from engine.gateway.model_list import PAGE, list_models
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.bases.repository import BaseRepository
from registry.catalog.catalog import Catalog
from registry.catalog.types import ServedReference
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.ingest.upload_service import UPLOAD
from registry.models import Adapter, Alias, AliasHistory, Version, now
from registry.models.tenant import AdapterGrant, Tenant
from registry.service import RegistryService
from tests.api.conftest import BASE as SERVED
from tests.api.helpers import AdapterMaker, publish

Json = dict[str, Any]

BASE = [{"id": name, "object": "model", "owned_by": "vllm"} for name in ("base", "base-too")]
FEW = ("a", "a@beta", "a@prod", "acme~x", "b@prod", "c")


async def fill(database: Database, references: Sequence[str], state: str = "ready") -> None:
    """One version for each adapter, and these aliases of it."""
    names = sorted({reference.partition("@")[0] for reference in references})
    ids = {name: n for n, name in enumerate(names, start=1)}
    same = {"weight": 1, "valid_from": now(), "actor": "tests", "revision": 1}
    pairs = [reference.partition("@")[::2] for reference in references]
    aliases = [(ids[name], alias or "default") for name, alias in pairs]
    async with database.transaction() as session:
        base_id = await BaseRepository(session).id_of(SERVED.identity)
        rows = [Adapter(id=n, name=name).model_dump() for name, n in ids.items()]
        await session.execute(insert(Adapter), rows)
        versions = [version(n, state, base_id).model_dump() for n in ids.values()]
        await session.execute(insert(Version), versions)
        history = [{"adapter_id": n, "version_id": n, "alias": a, **same} for n, a in aliases]
        await session.execute(insert(AliasHistory), history)
        rows = [{"adapter_id": n, "version_id": n, "name": a, "revision": 1} for n, a in aliases]
        await session.execute(insert(Alias), rows)


def version(adapter_id: int, state: str, base_id: int) -> Version:
    return Version(
        id=adapter_id,
        adapter_id=adapter_id,
        number=1,
        digest=f"{adapter_id:064x}",
        state=state,
        rank=4,
        alpha=8.0,
        target_modules=["q_proj"],
        dtype="float32",
        base_id=base_id,
        size_bytes=1,
        source="/srv",
        peft_config={},
        created_by="tests",
    )


def http(catalog: Catalog) -> httpx.AsyncClient:
    app = FastAPI()

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return await list_models(request.query_params, BASE, catalog.served_references)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def listed(catalog: Catalog, **query: Any) -> Json:
    async with http(catalog) as client:
        response = await client.get("/v1/models", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    content: Json = response.json()
    return content


def ids(content: Json) -> list[str]:
    return [model["id"] for model in content["data"]]


@pytest.mark.both_databases
async def test_base_models_come_first_and_then_all_adapters(
    service: RegistryService, database: Database
) -> None:
    await fill(database, FEW)
    content = await listed(service.catalog)
    assert content.keys() == {"object", "data"}
    assert ids(content) == ["base", "base-too", *FEW]
    assert content["data"][2] == {
        "id": "a",
        "object": "model",
        "owned_by": "vllm",
        "root": "/srv",
        "parent": "base",
    }


async def test_the_root_is_the_folder_of_the_version_with_the_largest_weight(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    folders = [make_adapter("first"), make_adapter("second", rank=2)]
    for folder in folders:
        await publish(client, "bot", folder)
    split = [{"version": 1, "weight": 1}, {"version": 2, "weight": 9}]
    await client.put("/adapters/bot/aliases/both", json={"weights": split})
    roots = {model["id"]: model["root"] for model in (await listed(service.catalog))["data"][2:]}
    assert roots == {"bot": str(folders[0]), "bot@both": str(folders[1])}


async def test_what_was_uploaded_has_no_folder_to_show(
    service: RegistryService, database: Database
) -> None:
    await fill(database, ["sent"])
    async with database.transaction() as session:
        await session.execute(update(Version).values(source=UPLOAD))
    assert (await listed(service.catalog))["data"][2]["root"] == "sent"


async def test_an_adapter_without_a_servable_version_is_not_listed(
    service: RegistryService, database: Database
) -> None:
    await fill(database, FEW, state="quarantined")
    assert ids(await listed(service.catalog)) == ["base", "base-too"]
    assert ids(await listed(service.catalog, limit=5)) == ["base", "base-too"]


async def test_a_long_list_is_sent_in_parts_and_nothing_is_listed_twice(
    service: RegistryService, database: Database
) -> None:
    many = [f"bot-{n:05d}" for n in range(2 * PAGE)]
    await fill(database, many)
    async with http(service.catalog) as client:
        request = Request({"type": "http", "query_string": b""})
        response = await list_models(request.query_params, BASE, service.catalog.served_references)
        assert isinstance(response, StreamingResponse)
        parts = [str(part) async for part in response.body_iterator]
        assert max(part.count('"id"') for part in parts) <= PAGE
        assert ids(json.loads("".join(parts))) == ["base", "base-too", *many]
        assert (await client.get("/v1/models")).json() == json.loads("".join(parts))


@pytest.mark.both_databases
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_join_to_the_whole(
    service: RegistryService, database: Database, limit: int
) -> None:
    await fill(database, FEW)
    found: list[str] = []
    page = await listed(service.catalog, limit=limit)
    while True:
        assert len(page["data"]) <= limit
        assert (page["first_id"], page["last_id"]) == (ids(page)[0], ids(page)[-1])
        found += ids(page)
        if not page["has_more"]:
            break
        page = await listed(service.catalog, limit=limit, after=page["last_id"])
    assert found == ["base", "base-too", *FEW]


async def test_a_page_after_the_last_is_empty(service: RegistryService, database: Database) -> None:
    await fill(database, FEW)
    page = await listed(service.catalog, after="zz")
    assert (page["data"], page["has_more"], page["last_id"]) == ([], False, None)


@pytest.mark.both_databases
async def test_a_tenant_sees_its_own_and_what_it_was_granted(
    service: RegistryService, database: Database
) -> None:
    await fill(database, (*FEW, "rival~y"))
    async with database.transaction() as session:
        session.add(Tenant(name="acme", created_by="tests"))
        await session.flush()
        session.add(AdapterGrant(adapter_id=1, tenant="acme", granted_by="tests"))
    with as_caller(Caller("acme~app", EVERY_SCOPE, frozenset({"a"}))):
        expected = ["base", "base-too", "a", "a@beta", "a@prod", "acme~x"]
        assert ids(await listed(service.catalog)) == expected
        assert ids(await listed(service.catalog, after="a@beta")) == expected[4:]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "invalid_request"),
        ({"limit": "1001"}, "invalid_request"),
        ({"limit": "99999999999999999999"}, "invalid_request"),
        ({"limit": "x"}, "invalid_request"),
        ({"after": "a:1"}, "invalid_reference"),
        ({"after": "No such name"}, "invalid_reference"),
    ],
)
async def test_a_wrong_page_is_refused_as_openai_does(
    service: RegistryService, query: Json, code: str
) -> None:
    async with http(service.catalog) as client:
        response = await client.get("/v1/models", params=query)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == next(iter(query))


async def test_an_outage_is_told_before_the_list_begins() -> None:
    async def read(*_: Any) -> list[ServedReference]:
        raise DatabaseUnavailable("it is away")

    request = Request({"type": "http", "query_string": b""})
    response = await list_models(request.query_params, BASE, read)
    assert response.status_code == 503
    assert response.headers["retry-after"]
