"""Sets of prompts: saved, listed, renamed and deleted; each tenant has its own."""

import asyncio

import httpx
import pytest
from sqlalchemy import event

from registry.api.prompts import MAX_ALL_CHARACTERS
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.errors import TooManyPromptSets, UnknownTenant
from registry.models import PromptSet
from registry.models.tenant import Tenant
from registry.prompts.service import MAX_SETS, PromptSetService
from registry.quotas.service import TenantQuotas
from registry.references import PLATFORM
from tests.api.helpers import assert_problem
from tests.api.keyed_client import Asked

pytestmark = pytest.mark.both_databases

PROMPTS = ["Write to a customer.", "  Two\nlines ", "Übersetze: дом"]


async def names(client: httpx.AsyncClient) -> list[str]:
    return [item["name"] for item in (await client.get("/prompts")).json()["items"]]


async def test_a_set_is_saved_renamed_and_deleted(client: httpx.AsyncClient) -> None:
    made = await client.put("/prompts/tickets", json={"prompts": PROMPTS})
    assert made.status_code == 200
    assert (await client.get("/prompts/tickets")).json()["prompts"] == PROMPTS
    await client.put("/prompts/Smoke", json={"prompts": ["hello"]})
    listed = (await client.get("/prompts")).json()["items"]
    assert [(item["name"], item["number"]) for item in listed] == [("Smoke", 1), ("tickets", 3)]
    await client.put("/prompts/tickets", json={"prompts": ["one"]})
    assert (await client.get("/prompts/tickets")).json()["prompts"] == ["one"]
    taken = await client.patch("/prompts/tickets", json={"name": "Smoke"})
    assert_problem(taken, 409, "prompt_set_exists")
    assert (await client.patch("/prompts/tickets", json={"name": "tickets"})).status_code == 200
    renamed = await client.patch("/prompts/tickets", json={"name": "tickets-2"})
    assert renamed.json()["prompts"] == ["one"]
    assert await names(client) == ["Smoke", "tickets-2"]
    assert_problem(await client.get("/prompts/tickets"), 404, "unknown_prompt_set")
    assert (await client.delete("/prompts/tickets-2")).status_code == 204
    assert_problem(await client.delete("/prompts/tickets-2"), 404, "unknown_prompt_set")
    gone = await client.patch("/prompts/tickets-2", json={"name": "x"})
    assert_problem(gone, 404, "unknown_prompt_set")
    assert await names(client) == ["Smoke"]


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [""],
        ["x"] * 101,
        ["a\0b"],
        "hello",
        [3],
        ["x" * 8192] * (MAX_ALL_CHARACTERS // 8192 + 1),
    ],
)
async def test_what_is_no_set_is_refused(client: httpx.AsyncClient, prompts: object) -> None:
    refused = await client.put("/prompts/bad", json={"prompts": prompts})
    assert_problem(refused, 422, "invalid_request")
    assert await names(client) == []


async def test_names_fit_an_address(client: httpx.AsyncClient) -> None:
    for name in ("%20", "a%20b", "-a", "x" * 65):
        refused = await client.put(f"/prompts/{name}", json={"prompts": ["x"]})
        assert_problem(refused, 422, "invalid_request")
    await client.put("/prompts/ok", json={"prompts": ["x"]})
    assert_problem(await client.patch("/prompts/ok", json={"name": "a b"}), 422, "invalid_request")


async def test_their_number_is_bounded(client: httpx.AsyncClient, database: Database) -> None:
    sets = PromptSetService(database, TenantQuotas(database))
    for n in range(MAX_SETS):
        await sets.save(PLATFORM, f"s{n}", ["x"], actor="tests")
    refused = await client.put("/prompts/more", json={"prompts": ["x"]})
    assert_problem(refused, 409, "too_many_prompt_sets")
    assert (await client.put("/prompts/s0", json={"prompts": ["y"]})).status_code == 200
    async with database.transaction(for_catalog=False) as session:
        session.add(Tenant(name="acme", created_by="tests"))
    await sets.save("acme", "more", ["x"], actor="tests")


async def test_a_list_reads_no_prompts(client: httpx.AsyncClient) -> None:
    """Of 200 large sets they would be 80 MB, parsed while all other requests wait."""
    await client.put("/prompts/large", json={"prompts": ["x" * 600] * 100})
    loaded: list[object] = []

    def note(row: PromptSet, _: object) -> None:
        loaded.append(row)

    event.listen(PromptSet, "load", note)
    try:
        listed = (await client.get("/prompts")).json()["items"]
    finally:
        event.remove(PromptSet, "load", note)
    assert [item["number"] for item in listed] == [100]
    assert loaded == []


async def test_one_that_is_saved_twice_at_a_time_is_one(
    client: httpx.AsyncClient,
) -> None:
    saving = [client.put("/prompts/same", json={"prompts": [str(n)]}) for n in range(8)]
    assert {answer.status_code for answer in await asyncio.gather(*saving)} == {200}
    assert await names(client) == ["same"]


async def test_one_that_is_deleted_meanwhile_is_no_error_of_the_server(
    client: httpx.AsyncClient,
) -> None:
    for _ in range(5):
        await client.put("/prompts/same", json={"prompts": ["x"]})
        changes = [client.delete("/prompts/same")]
        changes += [client.put("/prompts/same", json={"prompts": ["y"]}) for _ in range(3)]
        changes += [client.patch("/prompts/same", json={"name": "other"}) for _ in range(3)]
        answers = await asyncio.gather(*changes)
        assert {answer.status_code for answer in answers} <= {200, 204, 404, 409}


async def test_nothing_is_saved_for_a_tenant_that_is_deleted(database: Database) -> None:
    """Another of that name would find it."""
    sets = PromptSetService(database, TenantQuotas(database))
    with pytest.raises(UnknownTenant):
        await sets.save("gone", "mine", ["x"], actor="gone~boss")


async def test_a_tenant_has_its_own_which_go_with_it(asked: Asked, database: Database) -> None:
    for tenant in ("acme", "other"):
        await asked.says("root", "POST", "/tenants", json={"name": tenant})
    await asked.key("acme~boss", Scope.PUBLISH)
    await asked.key("acme~reader", Scope.INFER)
    await asked.key("other~boss", Scope.OPERATE)
    body = {"json": {"prompts": ["hello"]}}
    assert await asked.says("acme~boss", "PUT", "/prompts/mine", **body) == (200, "")
    assert await asked.says("acme~reader", "GET", "/prompts/mine") == (200, "")
    assert await asked.says("acme~reader", "PUT", "/prompts/x", **body) == (403, "scope_missing")
    assert await asked.says("acme~reader", "DELETE", "/prompts/mine") == (403, "scope_missing")
    for stranger in ("root", "other~boss"):
        said = await asked.says(stranger, "GET", "/prompts/mine")
        assert said == (404, "unknown_prompt_set")
        assert (await asked.ask(stranger, "GET", "/prompts")).json()["items"] == []
    await asked.says("root", "DELETE", "/keys/acme~boss")
    await asked.says("root", "DELETE", "/keys/acme~reader")
    assert await asked.says("root", "DELETE", "/tenants/acme") == (204, "")
    assert await PromptSetService(database, TenantQuotas(database)).all("acme") == []


async def test_prompts_count_as_stored_by_their_tenant(asked: Asked) -> None:
    limit = {"name": "acme", "max_storage_bytes": 10}
    await asked.says("root", "POST", "/tenants", json=limit)
    await asked.key("acme~boss", Scope.PUBLISH)

    async def save(name: str, *prompts: str) -> tuple[int, str]:
        body = {"prompts": prompts}
        return await asked.says("acme~boss", "PUT", f"/prompts/{name}", json=body)

    async def used() -> int:
        shown = await asked.ask("root", "GET", "/tenants/acme")
        return int(shown.json()["usage"]["storage_bytes"])

    assert await save("mine", "дом", "1234") == (200, "")
    assert await used() == 10
    assert await save("more", "x") == (409, "tenant_limit")
    assert await save("mine", "дом", "12345") == (409, "tenant_limit")
    assert (await asked.ask("acme~boss", "GET", "/prompts/mine")).json()["prompts"][1] == "1234"
    await asked.says("root", "PATCH", "/tenants/acme", json={"max_storage_bytes": 3})
    assert await save("mine", "123456789") == (200, ""), "what makes it less is never refused"
    assert await used() == 9
    assert await asked.says("acme~boss", "DELETE", "/prompts/mine") == (204, "")
    assert await used() == 0


async def test_of_two_sets_at_a_time_only_one_fits(asked: Asked) -> None:
    limit = {"name": "acme", "max_storage_bytes": 10}
    await asked.says("root", "POST", "/tenants", json=limit)
    await asked.key("acme~boss", Scope.PUBLISH)
    body = {"prompts": ["123456"]}
    saving = [asked.says("acme~boss", "PUT", f"/prompts/s{n}", json=body) for n in range(4)]
    answers = await asyncio.gather(*saving)
    assert sorted(answers) == [(200, ""), *[(409, "tenant_limit")] * 3]


async def test_sets_at_a_time_are_no_more_than_may_be(database: Database) -> None:
    sets = PromptSetService(database, TenantQuotas(database))
    for n in range(MAX_SETS - 1):
        await sets.save(PLATFORM, f"s{n}", ["x"], actor="tests")
    saving = [sets.save(PLATFORM, f"more{n}", ["x"], actor="tests") for n in range(4)]
    ends = await asyncio.gather(*saving, return_exceptions=True)
    assert sum(isinstance(end, TooManyPromptSets) for end in ends) == 3
    assert len(await sets.all(PLATFORM)) == MAX_SETS
