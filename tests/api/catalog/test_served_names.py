"""Served names: any text as `model`, unique to its owner, unknown to whoever may not use it."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from engine.operations.version_names import VersionNames
from engine.resolver import RegistryResolver
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE, Scope
from registry.catalog.catalog import Catalog
from registry.database.change_counter import ChangeCounter
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.errors import RegistryError
from registry.names.batch_reader import BATCH
from registry.names.grammar import MAX_SERVED_NAME, normalize_served_name
from registry.names.resolver import NameResolver
from registry.references import AdapterReference
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, kinds, publish_some, resolved, step
from tests.api.keyed_client import Asked
from tests.support.cache.controller_harness import Cache, running

NAMES = "/adapters/bot/names"
GOOD = (
    "Org/Adapter-7B",
    "BASE:ADAPTER",
    "gpt-4o-mini",
    "größe",
    "模型 七",
    'a "quoted" \\ name?#&%20',
    "x" * MAX_SERVED_NAME,
)


async def set_name(client: httpx.AsyncClient, name: str, **target: Any) -> dict[str, Any]:
    response = await client.put(NAMES, json={"name": name, **target})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def listed(client: httpx.AsyncClient) -> list[str]:
    return [each["name"] for each in (await client.get(NAMES)).json()["items"]]


@pytest.mark.both_databases
async def test_any_printable_text_means_the_adapter(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    resolver = RegistryResolver(service.catalog)
    for name in GOOD:
        made = await set_name(client, name)
        assert (made["name"], made["reference"], made["adapter"]) == (name, "bot", "bot")
        assert await resolved(client, name) == 1
        assert (await resolver.resolve(name)).reference == "bot:1"
    assert await listed(client) == sorted(GOOD)
    for name in GOOD:
        gone = await client.delete(NAMES, params={"served_name": name})
        assert gone.status_code == 204, gone.text
        with pytest.raises(RegistryError):
            await resolver.resolve(name)
    assert await listed(client) == []


@pytest.mark.both_databases
async def test_a_name_follows_what_it_stands_for(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    resolver = RegistryResolver(service.catalog)

    async def means() -> int:
        found = (await resolver.resolve("Org/Bot")).number
        assert await resolved(client, "Org/Bot") == found
        return found

    await set_name(client, "Org/Bot")
    assert await means() == 1
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    assert await means() == 2, "as `bot`"
    await client.put("/adapters/bot/aliases/prod", json={"version": 3})
    await set_name(client, "Org/Bot", alias="prod")
    assert await means() == 3, "as `bot@prod`"
    await set_name(client, "Org/Bot", version=1)
    await client.put("/adapters/bot/aliases/default", json={"version": 3})
    assert await means() == 1, "as `bot:1`"
    assert (await step(client, "bot:1", "retire", force=True)).status_code == 200
    assert_problem(
        await client.get("/resolve", params={"reference": "Org/Bot"}), 410, "version_retired"
    )
    assert (await resolver.find("Org/Bot")).reference == "bot:1", "for operators, in any state"
    assert (await kinds(client, "bot")).count("name.set") == 3


async def test_letters_of_several_characters_are_one_name(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    decomposed = "gro\u0308ße"
    assert (await set_name(client, decomposed))["name"] == "größe"
    assert await resolved(client, decomposed) == await resolved(client, "größe") == 1
    await set_name(client, "größe")
    assert await listed(client) == ["größe"]
    assert (await kinds(client, "bot")).count("name.set") == 1, "the second changed nothing"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": " x"}, 400, "invalid_served_name"),
        ({"name": "x\n"}, 400, "invalid_served_name"),
        ({"name": "a\u202eb"}, 400, "invalid_served_name"),
        ({"name": "y" * (MAX_SERVED_NAME + 1)}, 400, "invalid_served_name"),
        ({"name": "bot:1"}, 400, "invalid_served_name"),
        ({"name": "bot@prod"}, 400, "invalid_served_name"),
        ({"name": "acme~bot"}, 400, "invalid_served_name"),
        ({"name": "tiny"}, 409, "name_reserved"),
        ({"name": "bot"}, 409, "name_taken"),
        ({"name": "other"}, 409, "name_taken"),
        ({"name": "Taken"}, 409, "name_taken"),
        ({"name": "X", "version": 9}, 404, "unknown_version"),
        ({"name": "X", "alias": "nope"}, 404, "unknown_alias"),
        ({"name": "X", "alias": "NO"}, 400, "invalid_reference"),
        ({"name": "X", "alias": "default", "version": 1}, 422, "invalid_request"),
        ({"name": ""}, 422, "invalid_request"),
        ({"name": "a\0"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
async def test_what_can_not_be_a_name_is_refused(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    for name in ("bot", "other"):
        await publish_some(client, make_adapter, name, 1)
    taken = await client.put("/adapters/other/names", json={"name": "Taken"})
    assert taken.status_code == 200
    assert_problem(await client.put(NAMES, json=body), status, code)
    assert await listed(client) == []


async def test_names_that_are_not_there(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await publish_some(client, make_adapter, "other", 1)
    await client.put("/adapters/other/names", json={"name": "Taken"})
    for name in ("Taken", "Nobody"):
        gone = await client.delete(NAMES, params={"served_name": name})
        assert_problem(gone, 404, "unknown_served_name")
    assert_problem(await client.get("/adapters/nobody/names"), 404, "unknown_adapter")
    put = await client.put("/adapters/nobody/names", json={"name": "X"})
    assert_problem(put, 404, "unknown_adapter")


async def test_an_adapter_has_so_many_names_at_most(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    for n in range(32):
        await set_name(client, f"Bot {n}")
    assert_problem(await client.put(NAMES, json={"name": "One more"}), 409, "too_many_names")
    await set_name(client, "Bot 3", version=1)


async def test_no_adapter_is_added_under_a_served_name(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await set_name(client, "gpt")
    source = str(make_adapter("gpt", seed=5))
    refused = await client.post("/adapters/gpt/versions", json={"source": source})
    assert_problem(refused, 409, "name_taken")
    assert await resolved(client, "gpt") == 1


@pytest.mark.both_databases
async def test_an_adapter_and_a_served_name_never_get_one_text_together(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    source = str(make_adapter("gpt", seed=5))
    for n in range(12):
        text = f"gpt-{n}"
        named, added = await asyncio.gather(
            client.put(NAMES, json={"name": text}),
            client.post(f"/adapters/{text}/versions", json={"source": source}),
        )
        assert sorted([named.is_success, added.is_success]) == [False, True], (named, added)
        refused = added if named.is_success else named
        assert_problem(refused, 409, "name_taken")


@pytest.mark.both_databases
async def test_two_adapters_that_want_one_name_together(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for name in ("a", "b"):
        await publish_some(client, make_adapter, name, 1)
    paths = [f"/adapters/{name}/names" for name in ("a", "b")]
    answers = await asyncio.gather(*(client.put(p, json={"name": "One"}) for p in paths))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


@pytest.mark.both_databases
async def test_a_name_that_another_server_sets_is_noticed(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    other = RegistryService(
        type(service._database)(service._database.url.render_as_string(hide_password=False)),
        service.store,
        service.base_model,
        max_rank=16,
    )
    resolver = RegistryResolver(other.catalog)
    assert (await resolver.resolve("bot")).number == 1
    await set_name(client, "Org/Bot")
    assert (await resolver.resolve("Org/Bot")).number == 1
    await set_name(client, "Org/Bot", version=2)
    await other.catalog.poll_changes_now()
    assert (await resolver.resolve("Org/Bot")).number == 2
    await client.delete(NAMES, params={"served_name": "Org/Bot"})
    await other.catalog.poll_changes_now()
    with pytest.raises(RegistryError):
        await resolver.resolve("Org/Bot")
    await other._database.close()


@pytest.mark.both_databases
async def test_a_scrape_has_the_names_of_what_is_in_memory(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    await client.put("/adapters/bot/aliases/prod", json={"version": 2})
    for target in ({}, {"alias": "prod"}, {"version": 2}):
        await set_name(client, f"Bot {target}", **target)
    resolver = RegistryResolver(service.catalog)
    one, two, three = [await resolver.resolve(f"bot:{n}") for n in (1, 2, 3)]
    async with running(Cache(slots=2, host=3)) as cache:
        names = VersionNames(service.catalog, cache.policy.held)
        await names.refresh()
        assert names.of(one.id) == ()
        for version in (one, two):
            async with cache.controller.lease(version):
                pass
        await names.refresh()
        assert list(names.of(one.id)) == ["bot", "Bot {}"]
        assert list(names.of(two.id)) == ["bot@prod", "Bot {'alias': 'prod'}", "Bot {'version': 2}"]
        assert names.of(three.id) == ()
        await client.put("/adapters/bot/aliases/default", json={"version": 2})
        await client.delete(NAMES, params={"served_name": "Bot {'version': 2}"})
        await names.refresh()
        assert names.of(one.id) == ()
        assert set(names.of(two.id)) == {"bot", "bot@prod", "Bot {}", "Bot {'alias': 'prod'}"}


@pytest.mark.both_databases
async def test_a_name_of_another_server_is_among_those_of_a_version_without_any_request(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    service: RegistryService,
    database_url: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    version = await RegistryResolver(service.catalog).resolve("bot:1")
    poller = ChangePoller(service._database, every_seconds=0)
    catalog = Catalog(service._database, service.store.path_of, poller)
    async with running(Cache(slots=2, host=3)) as cache:
        names = VersionNames(catalog, cache.policy.held)
        async with cache.controller.lease(version):
            pass
        await names.refresh()
        assert list(names.of(version.id)) == ["bot"]
        other = Database(database_url)
        second = RegistryService(other, service.store, service.base_model, max_rank=16)
        await second.names.set("Org/Bot", AdapterReference("bot"), actor="test")
        await other.close()
        await names.refresh()
        assert list(names.of(version.id)) == ["bot", "Org/Bot"]


# ---- tenants ---------------------------------------------------------------------------------


@pytest.fixture
async def tenants(asked: Asked, make_adapter: AdapterMaker) -> Asked:
    """`acme` and `other` with an adapter each, and `bot` of the platform, granted to `acme`."""
    for tenant in ("acme", "other"):
        assert (await asked.says("root", "POST", "/tenants", json={"name": tenant}))[0] == 201
        await asked.key(f"{tenant}~boss", Scope.PUBLISH, Scope.INFER, Scope.ADMIN)
    for seed, name in enumerate(("bot", "hidden", "acme~bot", "other~bot")):
        source = str(make_adapter(name.replace("~", "/"), seed=seed))
        body = {"source": source}
        made = await asked.ask("root", "POST", f"/adapters/{name}/versions", json=body)
        assert made.status_code == 201, made.text
    assert (await asked.says("root", "PUT", "/adapters/bot/grants/acme"))[0] in (200, 201, 204)
    return asked


async def means(asked: Asked, key: str, name: str) -> str:
    answer = await asked.ask(key, "GET", "/resolve", params={"reference": name})
    content = answer.json()
    return str(content["adapter"] if answer.status_code == 200 else content["code"])


@pytest.mark.both_databases
async def test_each_tenant_has_names_of_its_own_before_the_platforms(tenants: Asked) -> None:
    for key, adapter in (("root", "bot"), ("acme~boss", "acme~bot"), ("other~boss", "other~bot")):
        body = {"name": "Org/Bot"}
        assert (await tenants.says(key, "PUT", f"/adapters/{adapter}/names", json=body))[0] == 200
    assert await means(tenants, "root", "Org/Bot") == "bot"
    assert await means(tenants, "acme~boss", "Org/Bot") == "acme~bot"
    assert await means(tenants, "other~boss", "Org/Bot") == "other~bot"
    gone = {"served_name": "Org/Bot"}
    for tenant in ("acme", "other"):
        path = f"/adapters/{tenant}~bot/names"
        assert (await tenants.says(f"{tenant}~boss", "DELETE", path, params=gone))[0] == 204
    assert await means(tenants, "acme~boss", "Org/Bot") == "bot", "it was granted that"
    assert await means(tenants, "other~boss", "Org/Bot") == "invalid_reference", "it was not"
    await tenants.ask("root", "DELETE", "/adapters/bot/grants/acme")
    assert await means(tenants, "acme~boss", "Org/Bot") in ("invalid_reference", "unknown_adapter")


@pytest.mark.both_databases
async def test_a_name_of_another_tenant_is_as_one_that_nobody_has(tenants: Asked) -> None:
    set_secret = {"name": "Secret/Name"}
    own = "/adapters/acme~bot/names"
    assert (await tenants.says("acme~boss", "PUT", own, json=set_secret))[0] == 200
    hidden = {"name": "Hidden/Name"}
    assert (await tenants.says("root", "PUT", "/adapters/hidden/names", json=hidden))[0] == 200

    async def said(name: str) -> dict[str, Any]:
        answer = await tenants.ask("other~boss", "GET", "/resolve", params={"reference": name})
        return {**answer.json(), "detail": answer.json()["detail"].replace(name, "NAME")}

    nobodys = await said("Nobody/Name")
    assert await said("Secret/Name") == await said("Hidden/Name") == nobodys
    theirs = ("other~boss", "/adapters/acme~bot/names")
    assert await tenants.says(theirs[0], "GET", theirs[1]) == (404, "unknown_adapter")
    assert await tenants.says(theirs[0], "PUT", theirs[1], json=set_secret) == (
        404,
        "unknown_adapter",
    )
    removed = await tenants.says(theirs[0], "DELETE", theirs[1], params={"served_name": "x"})
    assert removed == (404, "unknown_adapter")
    may_use_only = await tenants.says("acme~boss", "PUT", "/adapters/bot/names", json=hidden)
    assert may_use_only == (403, "not_owner")
    mine = await tenants.says("other~boss", "PUT", "/adapters/other~bot/names", json=set_secret)
    assert mine[0] == 200, "a name that another tenant has is free"
    assert await means(tenants, "acme~boss", "Secret/Name") == "acme~bot"


# ---- the database under load ------------------------------------------------------------------


class CountedCatalog:
    """The catalog, with a count of its sessions."""

    def __init__(self, service: RegistryService) -> None:
        self._catalog = service.catalog
        self.sessions = 0

    @property
    def changes(self) -> ChangeCounter:
        return self._catalog.changes

    async def poll_changes(self) -> None:
        """Nothing changes meanwhile."""

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        self.sessions += 1
        return self._catalog.read_session()


async def test_a_herd_of_unknown_names_shares_its_queries(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await set_name(client, "Org/Bot")
    catalog = CountedCatalog(service)
    names = NameResolver(catalog)
    texts = [*(f"Org/{n}" for n in range(4 * BATCH)), *(f"n{n}" for n in range(4 * BATCH))]
    found = await asyncio.gather(*map(names.reference, texts), return_exceptions=True)
    assert all(isinstance(error, RegistryError) for error in found)
    assert catalog.sessions <= len(texts) // BATCH + 1
    assert len(names._meanings._entries) == 0, "and none of them is kept"
    before = catalog.sessions
    for _ in range(3):
        assert await names.reference("Org/Bot") == AdapterReference("bot")
    assert catalog.sessions == before + 1, "what a name means is read once"
    for hopeless in ("x" * 5000, "a\0b", "\ud800", " ", "ü" * 257, "acme~Bot:1", ""):
        with pytest.raises(RegistryError):
            await names.reference(hopeless)
    assert catalog.sessions <= before + 2, "most of what can be no name is not even looked up"
    with as_caller(Caller("acme~app", EVERY_SCOPE)), pytest.raises(RegistryError):
        await names.reference("Org/Bot")


def test_a_long_text_is_no_name_before_it_is_composed() -> None:
    assert normalize_served_name("e\u0301" * MAX_SERVED_NAME) == "é" * MAX_SERVED_NAME
    assert normalize_served_name("e\u0301" * 1_000_000) is None
