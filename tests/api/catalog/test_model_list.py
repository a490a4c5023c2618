"""The list of models: OpenAI's shape, each adapter once and in order, a bounded part at a time."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from sqlalchemy import insert, update
from starlette.responses import StreamingResponse

from engine.gateway.model_list import PAGE, ModelList, model_list
from engine.resolver import RegistryResolver
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.auth.visibility import Reader
from registry.bases.repository import BaseRepository
from registry.catalog.types import ServedReference
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.ingest.upload_service import UPLOAD
from registry.models import Adapter, Alias, AliasHistory, Version, now
from registry.models.tenant import AdapterGrant, Tenant
from registry.references import AdapterReference
from registry.service import RegistryService
from tests.api.conftest import BASE as SERVED
from tests.api.helpers import AdapterMaker, publish

Json = dict[str, Any]

BASE = [{"id": name, "object": "model", "owned_by": "vllm"} for name in ("base", "base-too")]
NAMES = {
    "Org/A": AdapterReference("a"),
    "b-prod": AdapterReference("b", "prod"),
    "größe": AdapterReference("a", version=1),
}
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


def shown(service: RegistryService) -> ModelList:
    return model_list(service, RegistryResolver(service.catalog))


def http(service: RegistryService) -> httpx.AsyncClient:
    app, models_shown = FastAPI(), shown(service)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return await models_shown.show_all(BASE, request.query_params)

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        return await models_shown.show_one(BASE, model)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def listed(service: RegistryService, **query: Any) -> Json:
    async with http(service) as client:
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
    content = await listed(service)
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
    roots = {model["id"]: model["root"] for model in (await listed(service))["data"][2:]}
    assert roots == {"bot": str(folders[0]), "bot@both": str(folders[1])}


async def test_what_was_uploaded_has_no_folder_to_show(
    service: RegistryService, database: Database
) -> None:
    await fill(database, ["sent"])
    async with database.transaction() as session:
        await session.execute(update(Version).values(source=UPLOAD))
    assert (await listed(service))["data"][2]["root"] == "sent"


async def test_an_adapter_without_a_servable_version_is_not_listed(
    service: RegistryService, database: Database
) -> None:
    await fill(database, FEW, state="quarantined")
    assert ids(await listed(service)) == ["base", "base-too"]
    assert ids(await listed(service, limit=5)) == ["base", "base-too"]


async def test_a_long_list_is_sent_in_parts_and_nothing_is_listed_twice(
    service: RegistryService, database: Database
) -> None:
    many = [f"bot-{n:05d}" for n in range(2 * PAGE)]
    await fill(database, many)
    async with http(service) as client:
        request = Request({"type": "http", "query_string": b""})
        response = await shown(service).show_all(BASE, request.query_params)
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
    page = await listed(service, limit=limit)
    while True:
        assert len(page["data"]) <= limit
        assert (page["first_id"], page["last_id"]) == (ids(page)[0], ids(page)[-1])
        found += ids(page)
        if not page["has_more"]:
            break
        page = await listed(service, limit=limit, after=page["last_id"])
    assert found == ["base", "base-too", *FEW]


async def test_a_page_after_the_last_is_empty(service: RegistryService, database: Database) -> None:
    await fill(database, FEW)
    page = await listed(service, after="zz")
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
        assert ids(await listed(service)) == expected
        assert ids(await listed(service, after="a@beta")) == expected[4:]


async def name_adapters(service: RegistryService) -> None:
    for name, reference in NAMES.items():
        await service.names.set(name, reference, actor="tests")


@pytest.mark.both_databases
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_served_names_follow_as_ids_of_their_own(
    service: RegistryService, database: Database, limit: int
) -> None:
    await fill(database, FEW)
    await name_adapters(service)
    whole = await listed(service)
    assert ids(whole) == ["base", "base-too", *FEW, "Org/A", "b-prod", "größe"]
    named = whole["data"][-3]
    assert (named["id"], named["root"], named["parent"]) == ("Org/A", "/srv", "base")
    found, page = [], await listed(service, limit=limit)
    while page["has_more"]:
        found += ids(page)
        page = await listed(service, limit=limit, after=page["last_id"])
    assert [*found, *ids(page)] == ids(whole)


async def test_a_served_name_of_nothing_servable_is_not_listed(
    service: RegistryService, database: Database
) -> None:
    await fill(database, FEW, state="retired")
    await name_adapters(service)
    assert ids(await listed(service)) == ["base", "base-too"]


@pytest.mark.both_databases
async def test_a_tenants_own_names_hide_the_platforms_and_no_others_are_listed(
    service: RegistryService, database: Database
) -> None:
    await fill(database, (*FEW, "rival~y"))
    await name_adapters(service)
    for adapter, name in (("acme~x", "größe"), ("acme~x", "X"), ("rival~y", "Y")):
        await service.names.set(name, AdapterReference(adapter), actor="tests")
    with as_caller(Caller("acme~app", EVERY_SCOPE, frozenset({"a"}))):
        page = await listed(service, after="acme~x")
        assert ids(page) == ["X", "größe"], "no grant is in the database"
    async with database.transaction() as session:
        session.add(Tenant(name="acme", created_by="tests"))
        await session.flush()
        session.add(AdapterGrant(adapter_id=1, tenant="acme", granted_by="tests"))
    with as_caller(Caller("acme~app", EVERY_SCOPE, frozenset({"a"}))):
        page = await listed(service, after="acme~x")
        assert ids(page) == ["Org/A", "X", "größe"]
    texts = ("Org/A", "X", "b-prod", "Y", "nothing")
    known = [text for text in texts if await service.names.has(text, Reader("acme"))]
    assert known == ["Org/A", "X"], "of others' names it must not learn that they are there"
    assert ids(await listed(service))[-3:] == ["Org/A", "b-prod", "größe"]


@pytest.mark.both_databases
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_an_adapter_whose_name_is_a_tenants_own_name_is_listed_once_as_what_it_means(
    service: RegistryService, database: Database, limit: int
) -> None:
    await fill(database, FEW)
    await service.names.set("a", AdapterReference("acme~x"), actor="tests")
    async with database.transaction() as session:
        session.add(Tenant(name="acme", created_by="tests"))
        await session.flush()
        session.add(AdapterGrant(adapter_id=1, tenant="acme", granted_by="tests"))
    with as_caller(Caller("acme~app", EVERY_SCOPE, frozenset({"a"}))):
        expected = ["base", "base-too", "a@beta", "a@prod", "acme~x", "a"]
        found, page = [], await listed(service, limit=limit)
        while page["has_more"]:
            found += ids(page)
            page = await listed(service, limit=limit, after=page["last_id"])
        assert [*found, *ids(page)] == ids(await listed(service)) == expected


async def test_each_model_is_found_by_its_id(service: RegistryService, database: Database) -> None:
    await fill(database, FEW)
    await name_adapters(service)
    whole = await listed(service)
    async with http(service) as client:
        for model in whole["data"]:
            answer = await client.get(f"/v1/models/{quote(model['id'], safe='')}")
            assert answer.status_code == 200
            assert answer.json() == model
        slashed = await client.get("/v1/models/Org/A")
        assert slashed.json()["id"] == "Org/A"
        assert (await client.get("/v1/models/a:1")).json()["parent"] == "base"
        for unknown in ("nobody", "a:7", "a@nope", "No/Such", "x" * 300, "ü", "a%00b"):
            answer = await client.get(f"/v1/models/{unknown}")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "model_not_found"), unknown
            assert (error["type"], error["param"]) == ("NotFoundError", "model")
        with as_caller(Caller("acme~app", EVERY_SCOPE)):
            answer = await client.get("/v1/models/Org/A")
            assert answer.status_code == 404
            assert (await client.get("/v1/models/acme~x")).status_code == 200


async def test_a_retired_model_is_found_no_more_and_the_code_says_why(
    service: RegistryService, database: Database
) -> None:
    await fill(database, FEW, state="retired")
    async with http(service) as client:
        answer = await client.get("/v1/models/a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "version_retired")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "invalid_request"),
        ({"limit": "1001"}, "invalid_request"),
        ({"limit": "99999999999999999999"}, "invalid_request"),
        ({"limit": "000000001" + "9" * 20}, "invalid_request"),
        ({"limit": "x"}, "invalid_request"),
        ({"after": "a:1"}, "invalid_reference"),
        ({"after": "No such name"}, "invalid_reference"),
    ],
)
async def test_a_wrong_page_is_refused_as_openai_does(
    service: RegistryService, query: Json, code: str
) -> None:
    async with http(service) as client:
        response = await client.get("/v1/models", params=query)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == next(iter(query))


async def test_an_outage_is_told_before_the_list_begins(service: RegistryService) -> None:
    async def read(*_: Any) -> list[ServedReference]:
        raise DatabaseUnavailable("it is away")

    request = Request({"type": "http", "query_string": b""})
    resolver = RegistryResolver(service.catalog)
    models = ModelList(read, service.names, resolver, service.catalog.version)
    response = await models.show_all(BASE, request.query_params)
    assert response.status_code == 503
    assert response.headers["retry-after"]
